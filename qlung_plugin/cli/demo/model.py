"""What the demo's page says of its model.

Authors
 * qlung_plugin contributors
"""

from qlung_plugin.runs import schema as run_schema
from qlung_plugin.utils.text import printable


def describe_model(source: str, provenance: dict) -> str:
    """Which model it is, and what it has scored, in Markdown.

    The provenance is that of a ``model.json``, which may be a stranger's: what
    is quoted of it is text.
    """
    run_schema.check(provenance, run_schema.PROVENANCE, f"{source}: provenance")
    settings = provenance.get("settings", {})
    configuration = [
        f"{name} {settings[name]}"
        for name in ("split", "seed")
        if name in settings
    ]
    if isinstance(settings.get("loss"), dict):
        loss = str(settings["loss"].get("class", "")).rpartition(".")[2]
        configuration.append(f"loss {loss}")
    facts = [
        _code(source),
        f"{_code(provenance['checkpoint'], '')} checkpoint",
        f"epoch {provenance['epoch']}",
        *(_code(text) for text in configuration),
    ]
    model = f"Model: {', '.join(facts)}."
    calibration = "Its probabilities are not calibrated."
    if provenance.get("calibration"):
        calibration = "Its probabilities were calibrated."
    scores = []
    for result in provenance.get("results", []):
        data = result["data"]
        where = f"{data['database']}: {data.get('partition', '')}"
        about = f"{where} ({data['protocol']})"
        score = "n/a" if result["score"] is None else f"{result['score']:.2f} %"
        scores.append(
            f"- {score} on {_code(about)}, checkpoint by"
            f" {_code(result['selection'])}"
        )
    if not scores:
        return f"{model} No result of it is known.\n{calibration}"
    rule = "Score (mean of specificity and sensitivity, exact class):"
    if "sp" not in result:
        rule = "Macro recall (mean over the classes):"
    return "\n".join([f"{model} {calibration}", "", rule, "", *scores])


def _code(text: object, mark: str = "`") -> str:
    """A stranger's text in Markdown, which makes nothing of it."""
    return f"{mark}{printable(text).replace('`', chr(39))}{mark}"
