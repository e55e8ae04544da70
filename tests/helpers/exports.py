"""Exports of trials for tests."""

from datetime import UTC, datetime
from typing import Any

from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.export import Export, Provenance
from mtsearch.study_file.sections import DataSection, SplitSection


def made(**changes: Any) -> Export:
    provenance = {
        "study": "ml-100k",
        "trial": 17,
        "pick": "rmse<=0.93",
        "objectives": ["rmse", "top_100"],
        "best_epoch": 3,
        "data_fingerprint": "5f3c",
        "split_fingerprint": "77aa",
        "study_seed": 42,
        "threads": 2,
        "exported": datetime(2025, 3, 1, 9, 30, tzinfo=UTC),
        "exported_by": "0.1.0",
        "metrics": {"rmse": 0.9321, "top_100": 0.1 + 0.2},
        "params": {"loss_ratio": 0.25, "embedding_size": 64, "rating_biases": True, "optimizer": "adam"},
        "packages": {"tf-keras": "2.21.0"},
    }
    return Export(
        config=TrialConfig(learning_rate=1e-05, retrieval_weight=1 / 3, hidden_layers="", embedding_size=64),
        data=DataSection(source="a 'folder' of \"mine\"\\ml-100k"),
        split=SplitSection(validation="test"),
        provenance=Provenance.model_validate({**provenance, **changes}),
    )
