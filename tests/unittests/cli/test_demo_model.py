"""What the demo's page says of its model.

Authors
 * qlung_plugin contributors
"""

import pytest

from qlung_plugin.cli.demo.model import describe_model


def test_the_model_and_its_results_are_named():
    data = {"database": "ICBHI `x`", "subset": None, "protocol": "official"}
    result = {
        "score": 57.123,
        "sp": 80,
        "selection": "best\n\n# big",
        "data": data,
    }
    about = {
        "checkpoint": "selected",
        "epoch": 7,
        "settings": {"seed": 1, "split": "official", "loss": {"class": "a.B"}},
        "results": [{**result, "data": {**data, "partition": "test side"}}],
    }
    text = describe_model("<b>ce</b>", about)
    assert text.startswith(
        "Model: `<b>ce</b>`, selected checkpoint, epoch 7, `split official`,"
        " `seed 1`, `loss B`. Its probabilities are not calibrated.\n\nScore ("
    )
    # An item of a list
    assert text.endswith(
        "\n\n- 57.12 % on `ICBHI 'x': test side (official)`,"
        " checkpoint by `best # big`"
    )
    del about["results"][0]["sp"]
    assert "\n\nMacro recall (" in describe_model("ce", about)
    about["results"][0]["score"] = 107
    with pytest.raises(ValueError, match=r"results\[0\].score is 107, not"):
        describe_model("ce", about)
