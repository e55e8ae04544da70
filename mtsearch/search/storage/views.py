"""SQL views on Optuna's tables: the Pareto front and the learning curves of every study, for queries in SQL.

A view is computed from Optuna's own rows at each query, so it is never out of date. The order of its rows is not fixed.

    pareto_front(study, trial, objectives, params)
        `study.best_trials` of every study with one to four objectives; objectives is a JSON object from the names of
        the metrics to their values, in the study's order (`objective_0`, ... in a study without names); params is one,
        its keys sorted
    learning_curves(study, trial, epoch, metrics)
        one row per epoch of the trial attribute `mtsearch:curve`; metrics is a JSON object

JSON has no infinity: an infinity is written as 9e999, which JSON parsers read as an infinity, and NaN as null.
"""

import hashlib

from optuna.storages import RDBStorage
from sqlalchemy.engine import Connection

from mtsearch.search.attributes import CURVE
from mtsearch.study_file.definition import MOST_OBJECTIVES

# NOTE: PostgreSQL's texts hold no "%", which its drivers would take for a parameter.
_NAMES = {
    "pareto_front": "pareto_front(study, trial, objectives, params)",
    "learning_curves": "learning_curves(study, trial, epoch, metrics)",
}
_LOCK = 7_260_943  # any number, the same in every process


def ensure_views(storage: RDBStorage) -> None:
    """Create the views, or create them again if their definition has changed.

    Storages other than SQLite and PostgreSQL have no views.

    Args:
        storage: from `open_writer`.
    """
    if storage.engine.name not in _DEFINITIONS:
        return
    with storage.engine.begin() as connection:
        _lock_views(connection)
        for name, body in _DEFINITIONS[storage.engine.name].items():
            create = f"CREATE VIEW {_NAMES[name]} AS{body}"
            # The stamp stands at the end of the installed view and changes with its text.
            stamp = f"mtsearch {hashlib.sha256(create.encode()).hexdigest()[:16]}"
            if stamp not in _read_stamp(connection, name):
                connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
                connection.exec_driver_sql(f"{create}\n-- {stamp}")
                if connection.engine.name == "postgresql":  # it keeps the parsed query, not its text
                    connection.exec_driver_sql(f"COMMENT ON VIEW {name} IS '{stamp}'")


def drop_views(storage: RDBStorage) -> None:
    """Drop the views before Optuna upgrades the database, since they would block changes of its tables.

    Args:
        storage: from `open_writer`, or an RDBStorage that skipped the compatibility check.
    """
    if storage.engine.name not in _DEFINITIONS:
        return
    with storage.engine.begin() as connection:
        _lock_views(connection)
        for name in _NAMES:
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")


def _lock_views(connection: Connection) -> None:
    """Let one process at a time change the views; on SQLite the transaction's BEGIN IMMEDIATE does so."""
    if connection.engine.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _read_stamp(connection: Connection, name: str) -> str:
    """Return a text that ends in the stamp of the installed view; empty if the view is not installed."""
    query = {
        "sqlite": f"SELECT sql FROM sqlite_master WHERE type = 'view' AND name = '{name}'",
        "postgresql": f"SELECT obj_description(to_regclass('{name}'))",
    }[connection.engine.name]
    return connection.exec_driver_sql(query).scalar() or ""


def _front_query(infinity: str, infeasible: str, objectives: str, params: str) -> str:
    """Return the SQL query of the Pareto fronts of all studies: the trials that no other trial dominates.

    The arguments are SQL expressions for an infinity, infeasible trials, and the columns objectives and params.

    One and two objectives take O(n log n): by losses, a trial is on the front if all that sort before have a worse
    second loss. GROUPS counts equal points as one, so that they are kept or dropped together. With more objectives each
    trial is compared with the others until one dominates it, beginning with the least sum of losses.

    NOTE: with two objectives 1,000 trials take 9 ms on SQLite and 60 ms on PostgreSQL; with four, 3,000 trials with 131
    on the front take 0.1 s and 0.2 s. All values are joined once: with a join per objective, PostgreSQL, which does not
    know the size of a new table, compares all trials with all: 0.3 s.
    """
    value = f"CASE v.value_type WHEN 'INF_POS' THEN {infinity} WHEN 'INF_NEG' THEN -{infinity} ELSE v.value END"
    loss = f"{value} * CASE d.direction WHEN 'MAXIMIZE' THEN -1 ELSE 1 END"
    names = [f"loss_{place}" for place in range(MOST_OBJECTIVES)]
    losses = ",\n        ".join(
        f"coalesce(max(CASE v.objective WHEN {place} THEN {loss} END), 0) AS {name}" for place, name in enumerate(names)
    )
    no_worse = " AND ".join(f"o.{name} <= p.{name}" for name in names)
    better = " OR ".join(f"o.{name} < p.{name}" for name in names)
    return f"""
WITH points AS (
    SELECT t.study_id, t.trial_id, t.number, max(v.objective) AS last,
        {losses}
    FROM trials t
    JOIN trial_values v ON v.trial_id = t.trial_id
    JOIN study_directions d ON d.study_id = t.study_id AND d.objective = v.objective
    WHERE t.state = 'COMPLETE' AND NOT EXISTS ({infeasible})
    GROUP BY t.study_id, t.trial_id, t.number
), swept AS (
    SELECT *, min(loss_1) OVER (
        PARTITION BY study_id ORDER BY loss_0, loss_1 GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS best_before
    FROM points WHERE last < 2
), compared AS (
    SELECT * FROM points WHERE last BETWEEN 2 AND {MOST_OBJECTIVES - 1} ORDER BY study_id, {" + ".join(names)}
), front AS (
    SELECT study_id, trial_id, number FROM swept WHERE best_before IS NULL OR loss_1 < best_before
    UNION ALL
    SELECT study_id, trial_id, number FROM compared p WHERE NOT EXISTS (
        SELECT 1 FROM compared o WHERE o.study_id = p.study_id AND {no_worse} AND ({better})
    )
)
SELECT study_name, number, ({objectives}), ({params})
FROM front r JOIN studies s ON s.study_id = r.study_id"""


# Python's json writes Infinity and NaN, which are not valid JSON: one such value would make the whole view fail.
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

# NOTE: SQLite's own texts (json, quote) have 15 digits, or miss 1 in 100,000 floats by one unit; 17 are exact. Twelve
# are tried first, so that 0.1 reads 0.1.
_SQLITE_FLOAT = """CASE WHEN CAST(printf('%!.12g', {0}) AS REAL) = {0} THEN printf('%!.12g', {0})
            ELSE printf('%!.17g', {0}) END"""
_POSTGRES_FLOAT = "CASE WHEN {0}::text ~ '[.e]' THEN {0}::text ELSE {0}::text || '.0' END"

# Optuna keeps the names of the metrics as a JSON list in a system attribute of the study, and an infinity as its type.
_VALUE = "CASE value_type WHEN 'INF_POS' THEN '9e999' WHEN 'INF_NEG' THEN '-9e999' ELSE {0} END"
_METRIC_NAME = """coalesce((
            SELECT a.value_json{0} FROM study_system_attributes a
            WHERE a.study_id = r.study_id AND a.key = 'study:metric_names'
        ), 'objective_' || objective)"""

_SQLITE_OBJECTIVES = f"""
    SELECT json_group_object(name, json(text)) FROM (
        SELECT {_METRIC_NAME.format(" ->> ('$[' || objective || ']')")} AS name,
            {_VALUE.format(_SQLITE_FLOAT.format("value"))} AS text
        FROM trial_values v WHERE v.trial_id = r.trial_id ORDER BY objective)"""
_POSTGRES_OBJECTIVES = f"""
    SELECT '{{' || string_agg(to_json({_METRIC_NAME.format("::json ->> objective")})::text || ': ' ||
        {_VALUE.format(_POSTGRES_FLOAT.format("value"))}, ', ' ORDER BY objective) || '}}'
    FROM trial_values v WHERE v.trial_id = r.trial_id"""

# Optuna stores a parameter as a float and its distribution as '{"name": "IntDistribution", "attributes": {...}}'.
# Above 2^53 an integer is what the float says, and above 9e18 it is left in the float's notation.
_SQLITE_PARAMS = f"""
    SELECT json_group_object(param_name, json(text)) FROM (
        SELECT param_name, CASE
            WHEN substr(distribution_json, 11, 3) = 'Cat' THEN {_SQLITE_JSON.format("distribution_json")}
                -> ('$.attributes.choices[' || CAST(param_value AS INTEGER) || ']')
            WHEN substr(distribution_json, 11, 3) = 'Int' AND abs(param_value) < 9e18
                THEN CAST(CAST(param_value AS INTEGER) AS TEXT)
            ELSE {_SQLITE_FLOAT.format("param_value")} END AS text
        FROM trial_params p WHERE p.trial_id = r.trial_id ORDER BY param_name)"""
_POSTGRES_PARAMS = f"""
    SELECT coalesce('{{' || string_agg(to_json(param_name)::text || ': ' || CASE
            WHEN substr(distribution_json, 11, 3) = 'Cat' THEN
                ({_POSTGRES_JSON.format("distribution_json")} -> 'attributes' -> 'choices' -> param_value::int)::text
            WHEN substr(distribution_json, 11, 3) = 'Int' AND abs(param_value) < 9e18 THEN param_value::bigint::text
            ELSE {_POSTGRES_FLOAT.format("param_value")} END, ', ' ORDER BY param_name COLLATE "C") || '}}', '{{}}')
    FROM trial_params p WHERE p.trial_id = r.trial_id"""

_CURVE_ROWS = """
FROM trial_user_attributes a
JOIN trials t ON t.trial_id = a.trial_id
JOIN studies s ON s.study_id = t.study_id"""

_DEFINITIONS = {
    "sqlite": {
        "pareto_front": _front_query("9e999", _SQLITE_INFEASIBLE, _SQLITE_OBJECTIVES, _SQLITE_PARAMS),
        "learning_curves": f"""
SELECT s.study_name, t.number, json_extract(e.value, '$.epoch'), json_extract(e.value, '$.metrics'){_CURVE_ROWS}
JOIN json_each({_SQLITE_JSON.format("a.value_json")}) e
WHERE a.key = '{CURVE}'""",
    },
    "postgresql": {
        "pareto_front": _front_query(
            "'Infinity'::float8", _POSTGRES_INFEASIBLE, _POSTGRES_OBJECTIVES, _POSTGRES_PARAMS
        ),
        "learning_curves": f"""
SELECT s.study_name, t.number, (e.value ->> 'epoch')::int, (e.value -> 'metrics')::text{_CURVE_ROWS}
CROSS JOIN LATERAL json_array_elements(
    CASE WHEN a.key = '{CURVE}' THEN {_POSTGRES_JSON.format("a.value_json")} ELSE '[]' END) e(value)
WHERE a.key = '{CURVE}'""",
    },
}
