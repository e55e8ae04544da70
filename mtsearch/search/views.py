"""SQL views on Optuna's tables: the front and the learning curves for whoever speaks SQL.

A view is derived from Optuna's own rows and so never stale. Rows come in no promised order.

    pareto_front(study, trial, objective_1, objective_2, params)
        `study.best_trials` of every study with two objectives; params is a JSON object, its keys sorted
    learning_curves(study, trial, epoch, metrics)
        one row per epoch of the trial attribute `mtsearch:curve`; metrics is a JSON object

JSON has no infinity: in it an infinity is 9e999, which readers turn into one, and NaN is null.
"""

import hashlib

from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import Connection

from mtsearch.search.attributes import CURVE

# NOTE: no "%" in PostgreSQL's texts, which its drivers would take for a parameter.
_NAMES = {
    "pareto_front": "pareto_front(study, trial, objective_1, objective_2, params)",
    "learning_curves": "learning_curves(study, trial, epoch, metrics)",
}
_LOCK = 7_260_943  # any number, the same in every process


def ensure_views(storage: BaseStorage) -> None:
    """Make the views, or make them again where their definition has changed; nothing on storages other than
    SQLite and PostgreSQL.

    Args:
        storage: from `open_writer`.
    """
    if not isinstance(storage, RDBStorage) or storage.engine.name not in _DEFINITIONS:
        return
    with storage.engine.begin() as connection:
        _lock(connection)
        for name, body in _DEFINITIONS[storage.engine.name].items():
            create = f"CREATE VIEW {_NAMES[name]} AS{body}"
            stamp = f"mtsearch {hashlib.sha256(create.encode()).hexdigest()[:16]}"
            if stamp not in _installed(connection, name):
                connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
                connection.exec_driver_sql(f"{create}\n-- {stamp}")
                if connection.engine.name == "postgresql":  # keeps no text, only the parsed query
                    connection.exec_driver_sql(f"COMMENT ON VIEW {name} IS '{stamp}'")


def drop_views(storage: BaseStorage) -> None:
    """Take the views away, as Optuna's upgrade needs it: they stand in the way of altered and renamed tables.

    Args:
        storage: from `open_writer`, or an RDBStorage that skipped the compatibility check.
    """
    if not isinstance(storage, RDBStorage) or storage.engine.name not in _DEFINITIONS:
        return
    with storage.engine.begin() as connection:
        _lock(connection)
        for name in _NAMES:
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")


def _lock(connection: Connection) -> None:
    """One process at a time; on SQLite the transaction's BEGIN IMMEDIATE does that."""
    if connection.engine.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _installed(connection: Connection, name: str) -> str:
    """A text that ends in the stamp of the view that is there; empty if none is."""
    query = {
        "sqlite": f"SELECT sql FROM sqlite_master WHERE type = 'view' AND name = '{name}'",
        "postgresql": f"SELECT obj_description(to_regclass('{name}'))",
    }[connection.engine.name]
    return connection.exec_driver_sql(query).scalar() or ""


def _front(infinity: str, infeasible: str, params: str) -> str:
    """The front in O(n log n): by losses, a point is on it if all that sort before have a worse second loss.

    GROUPS counts equal points as one, so that they stay or go together.
    """
    value = f"CASE {{0}}.value_type WHEN 'INF_POS' THEN {infinity} WHEN 'INF_NEG' THEN -{infinity} ELSE {{0}}.value END"
    sign = "CASE {0}.direction WHEN 'MAXIMIZE' THEN -1 ELSE 1 END"
    return f"""
WITH points AS (
    SELECT s.study_id, s.study_name, t.trial_id, t.number,
        {value.format("v1")} AS objective_1, {sign.format("d1")} AS sign_1,
        {value.format("v2")} AS objective_2, {sign.format("d2")} AS sign_2
    FROM studies s
    JOIN study_directions d1 ON d1.study_id = s.study_id AND d1.objective = 0
    JOIN study_directions d2 ON d2.study_id = s.study_id AND d2.objective = 1
    JOIN trials t ON t.study_id = s.study_id AND t.state = 'COMPLETE'
    JOIN trial_values v1 ON v1.trial_id = t.trial_id AND v1.objective = 0
    JOIN trial_values v2 ON v2.trial_id = t.trial_id AND v2.objective = 1
    WHERE NOT EXISTS (SELECT 1 FROM study_directions d3 WHERE d3.study_id = s.study_id AND d3.objective = 2)
        AND NOT EXISTS ({infeasible})
), losses AS (
    SELECT *, objective_1 * sign_1 AS loss_1, objective_2 * sign_2 AS loss_2 FROM points
), ranked AS (
    SELECT *, min(loss_2) OVER (
        PARTITION BY study_id ORDER BY loss_1, loss_2 GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS best_before
    FROM losses
)
SELECT study_name, number, objective_1, objective_2, ({params})
FROM ranked r WHERE best_before IS NULL OR loss_2 < best_before"""


# Python's json writes Infinity and NaN, which are no JSON: one such value would make the whole view fail.
# NOTE: SQLite has no regular expressions; there, a text beside an infinity would lose the word "Infinity" too.
_SQLITE_JSON = """CASE WHEN json_valid({0}) THEN {0}
    ELSE replace(replace({0}, 'Infinity', '9e999'), 'NaN', 'null') END"""
_POSTGRES_JSON = r"""regexp_replace(regexp_replace({0},
    '([[ -])Infinity([],}}])', '\19e999\2', 'g'), '([[ ])NaN([],}}])', '\1null\2', 'g')::json"""

# A constraint is the system attribute `constraints:NAME`, a number. Before Optuna 5 it was an element of the list
# `constraints`, its index the name; where both have a name, the new one wins. Infeasible: above 0, and NaN.
_CONSTRAINTS = """CASE
            WHEN a.key = 'constraints' THEN replace(replace(a.value_json, 'Infinity', '9e999'), 'NaN', '9e999')
            WHEN substr(a.key, 1, 12) = 'constraints:' THEN '[' || replace(a.value_json, 'Infinity', '9e999') || ']'
            ELSE '[]' END"""
_OVERRIDDEN = """a.key = 'constraints' AND EXISTS (SELECT 1 FROM trial_system_attributes n
            WHERE n.trial_id = a.trial_id AND n.key = 'constraints:' || {0})"""

_SQLITE_INFEASIBLE = f"""
        SELECT 1 FROM trial_system_attributes a, json_each({_CONSTRAINTS}) c
        WHERE a.trial_id = t.trial_id AND c.value > 0 AND NOT ({_OVERRIDDEN.format("c.key")})"""
_POSTGRES_INFEASIBLE = f"""
        SELECT 1 FROM trial_system_attributes a,
            json_array_elements_text(nullif({_CONSTRAINTS}, 'null')::json) WITH ORDINALITY c(value, place)
        WHERE a.trial_id = t.trial_id AND CASE WHEN c.value IN ('true', 'false') THEN c.value = 'true'
            ELSE c.value::numeric > 0 END AND NOT ({_OVERRIDDEN.format("(c.place - 1)")})"""

# Optuna stores a parameter as a float and its distribution as '{"name": "IntDistribution", "attributes": {...}}'.
# Above 2^53 an integer is what the float says, and above 9e18 it is left in the float's notation.
# NOTE: SQLite's own texts (json, quote) have 15 digits, or miss 1 in 100,000 floats by one unit; 17 are exact. Twelve
# are tried first, so that 0.1 reads 0.1.
_SQLITE_PARAMS = f"""
    SELECT json_group_object(param_name, json(text)) FROM (
        SELECT param_name, CASE
            WHEN substr(distribution_json, 11, 3) = 'Cat' THEN {_SQLITE_JSON.format("distribution_json")}
                -> ('$.attributes.choices[' || CAST(param_value AS INTEGER) || ']')
            WHEN substr(distribution_json, 11, 3) = 'Int' AND abs(param_value) < 9e18
                THEN CAST(CAST(param_value AS INTEGER) AS TEXT)
            WHEN CAST(printf('%!.12g', param_value) AS REAL) = param_value THEN printf('%!.12g', param_value)
            ELSE printf('%!.17g', param_value) END AS text
        FROM trial_params p WHERE p.trial_id = r.trial_id ORDER BY param_name)"""
_POSTGRES_PARAMS = f"""
    SELECT coalesce('{{' || string_agg(to_json(param_name)::text || ': ' || CASE
            WHEN substr(distribution_json, 11, 3) = 'Cat' THEN
                ({_POSTGRES_JSON.format("distribution_json")} -> 'attributes' -> 'choices' -> param_value::int)::text
            WHEN substr(distribution_json, 11, 3) = 'Int' AND abs(param_value) < 9e18 THEN param_value::bigint::text
            WHEN param_value::text ~ '[.e]' THEN param_value::text
            ELSE param_value::text || '.0' END, ', ' ORDER BY param_name COLLATE "C") || '}}', '{{}}')
    FROM trial_params p WHERE p.trial_id = r.trial_id"""

_CURVE_ROWS = """
FROM trial_user_attributes a
JOIN trials t ON t.trial_id = a.trial_id
JOIN studies s ON s.study_id = t.study_id"""

_DEFINITIONS = {
    "sqlite": {
        "pareto_front": _front("9e999", _SQLITE_INFEASIBLE, _SQLITE_PARAMS),
        "learning_curves": f"""
SELECT s.study_name, t.number, json_extract(e.value, '$.epoch'), json_extract(e.value, '$.metrics'){_CURVE_ROWS}
JOIN json_each({_SQLITE_JSON.format("a.value_json")}) e
WHERE a.key = '{CURVE}'""",
    },
    "postgresql": {
        "pareto_front": _front("'Infinity'::float8", _POSTGRES_INFEASIBLE, _POSTGRES_PARAMS),
        "learning_curves": f"""
SELECT s.study_name, t.number, (e.value ->> 'epoch')::int, (e.value -> 'metrics')::text{_CURVE_ROWS}
CROSS JOIN LATERAL json_array_elements(
    CASE WHEN a.key = '{CURVE}' THEN {_POSTGRES_JSON.format("a.value_json")} ELSE '[]' END) e(value)
WHERE a.key = '{CURVE}'""",
    },
}
