"""A step goes only a part of the way.

Authors
 * qlung_plugin contributors
"""

import pytest
import torch
from torch import nn

from qlung_plugin.training.weight_averaging import StepAveraging


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_a_step_against_the_same_step_alone(share):
    torch.manual_seed(0)
    start, inputs = nn.Linear(3, 2), torch.randn(5, 3)
    before = {k: v.clone() for k, v in start.state_dict().items()}

    def trained(averaging):
        model = nn.Linear(3, 2)
        model.load_state_dict(before)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        model(inputs).square().sum().backward()
        if averaging:
            averaging.before_step(optimizer)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # as Brain does in its step
        if averaging:
            averaging.after_step()
        return model.state_dict()

    alone, averaged = trained(None), trained(StepAveraging(share))
    for name, old in before.items():
        expected = share * old + (1 - share) * alone[name]
        torch.testing.assert_close(averaged[name], expected)
        assert not torch.equal(alone[name], old)


def test_what_is_not_trained_is_not_remembered():
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    averaging = StepAveraging(0.5)
    averaging.before_step(optimizer)
    with torch.no_grad():
        model.bias.fill_(7.0)
    averaging.after_step()
    assert (model.bias == 7.0).all()


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_shares_that_cannot_be(share):
    with pytest.raises(ValueError, match="share must be in"):
        StepAveraging(share)
