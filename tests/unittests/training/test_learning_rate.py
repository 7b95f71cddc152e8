"""Tests that SpeechBrain's schedulers are called as in SpeechBrain.

Authors
 * qlung_plugin contributors
"""

import inspect

import pytest
import torch

from qlung_plugin.nnet.schedulers import CosineScheduler
from qlung_plugin.training.learning_rate import LearningRate
from speechbrain.nnet import schedulers

EPOCHS, STEPS = 4, 3
LOSSES = 1.0, 1.5, 0.5, 0.7  # of the validation, by epoch

# How SpeechBrain's recipes call each of them, and its arguments.
BY_EPOCH = {
    "LinearScheduler": (1.0, 0.1, EPOCHS),
    "StepScheduler": (1.0,),
}
BY_METRIC = {"NewBobScheduler": (1.0,)}
BY_LIST = {"ReduceLROnPlateau": (1e-8, 0.5, 0, 1)}
BY_STEP = {
    "NoamScheduler": (1.0, 4),
    "NoamIntervalScheduler": (1.0, 4, [6, 9], [0.5, 0.1]),
    "LinearNoamScheduler": (1.0, 3, 3),
    "CyclicCosineScheduler": (3, 1.0, 12),
    "LinearWarmupScheduler": (1.0, 3, 12),
    "WarmAndExpDecayLRSchedule": (1.0, 3, 12),
    "IntervalScheduler": ([{"steps": 2, "lr": 0.5}, {"steps": 7, "lr": 0.1}],),
    "InverseSquareRootScheduler": (4,),
}
BY_NUMBER = {
    "WarmCoolDecayLRSchedule": (1.0, 3, 3, 12),
    "TriStageLRSchedule": (1.0, 2, 3, 5, 12),
}
BY_BATCH_END = {"CyclicLRScheduler": (0.1, 1.0, 5)}
KINDS = BY_EPOCH, BY_METRIC, BY_LIST, BY_STEP, BY_NUMBER, BY_BATCH_END
NO_RATES = ["ScheduledLoss"]
ARGUMENTS = {name: args for kind in KINDS for name, args in kind.items()}


def make(name):
    return getattr(schedulers, name)(*ARGUMENTS[name])


@pytest.fixture
def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)


def expected_rates(name, optimizer):
    """The rate of each step, by calls as SpeechBrain's recipes write them."""
    scheduler, steps = make(name), 0
    for epoch, loss in enumerate(LOSSES, start=1):
        for _ in range(STEPS):
            yield optimizer.param_groups[0]["lr"]
            steps += 1
            if name in BY_STEP:
                scheduler(optimizer)
            elif name in BY_NUMBER:
                scheduler(optimizer, steps)
            elif name in BY_BATCH_END:
                scheduler.on_batch_end(optimizer)
        if name in BY_EPOCH:
            _, new = scheduler(epoch)
        elif name in BY_METRIC:
            _, new = scheduler(loss)
        elif name in BY_LIST:
            _, new = scheduler(
                [optimizer], current_epoch=epoch, current_loss=loss
            )
        else:
            continue
        schedulers.update_learning_rate(optimizer, new)


def rates_of(rate, optimizer, first=0):
    """The rate of each step from one on, as train.py calls the scheduler."""
    for step in range(first, EPOCHS * STEPS):
        yield optimizer.param_groups[0]["lr"]
        rate.after_step(optimizer, step + 1)
        epoch, ended = divmod(step + 1, STEPS)
        if not ended:
            rate.after_epoch(optimizer, epoch, LOSSES[epoch - 1])


def test_every_scheduler_of_speechbrain_is_here():
    there = [
        name
        for name, member in vars(schedulers).items()
        if inspect.isclass(member) and member.__module__ == schedulers.__name__
    ]
    assert sorted(there) == sorted([*ARGUMENTS, *NO_RATES])


@pytest.mark.parametrize("name", ARGUMENTS)
def test_rates_are_those_of_speechbrains_recipes(name, optimizer):
    expected = list(expected_rates(name, optimizer))
    optimizer.param_groups[0]["lr"] = 1.0
    rates = list(rates_of(LearningRate(make(name)), optimizer))
    assert rates == expected and len({*rates}) > 1


@pytest.mark.parametrize("stop", range(1, EPOCHS * STEPS))
@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_loaded_state_goes_on_as_if_uninterrupted(
    name, stop, optimizer, tmp_path
):
    rate = LearningRate(make(name))
    whole = list(rates_of(rate, optimizer))
    optimizer.param_groups[0]["lr"] = 1.0
    rate = LearningRate(make(name))
    before = rates_of(rate, optimizer)
    # What is before the next rate is asked for has been called.
    half = [next(before) for _ in range(stop + 1)][:stop]
    rate._save(tmp_path / "rate")
    again = LearningRate(make(name))
    again._load(tmp_path / "rate", end_of_epoch=False)
    assert half + list(rates_of(again, optimizer, first=stop)) == whole


@pytest.mark.parametrize("name", ARGUMENTS)
def test_rate_that_is_logged(name, optimizer):
    rate = LearningRate(make(name))
    logged = []
    for epoch in range(1, EPOCHS + 1):
        first = optimizer.param_groups[0]["lr"]
        for step in range(STEPS):
            rate.after_step(optimizer, (epoch - 1) * STEPS + step + 1)
        last = optimizer.param_groups[0]["lr"]
        logged.append(rate.after_epoch(optimizer, epoch, LOSSES[epoch - 1]))
        assert logged[-1] == last
        assert (first == last) or name in {
            **BY_STEP,
            **BY_NUMBER,
            **BY_BATCH_END,
        }


def test_without_a_validation_set(optimizer):
    for name in ARGUMENTS:
        rate = LearningRate(make(name))
        rate.check_validation(True)
        if name not in BY_METRIC | BY_LIST:
            rate.check_validation(False)
            continue
        with pytest.raises(ValueError, match=f"^lr_annealing: {name} needs"):
            rate.check_validation(False)


def plain_function(current_epoch):
    return 1.0, 1.0 / current_epoch


def test_a_function_and_our_own(optimizer, tmp_path):
    rate = LearningRate(plain_function)
    assert rate.after_epoch(optimizer, 4) == 1.0
    assert optimizer.param_groups[0]["lr"] == 0.25
    rate._save(tmp_path / "rate")
    rate._load(tmp_path / "rate", end_of_epoch=True)
    ours = CosineScheduler(1.0, 0.0, 4)
    assert LearningRate(ours).after_epoch(optimizer, 2) == ours(2)[0]


@pytest.mark.parametrize(
    "scheduler, told",
    [
        (None, "None"),
        (0.001, "0.001"),
        (schedulers.LinearScheduler, "<class .*LinearScheduler"),
        (
            schedulers.ScheduledLoss([{"loss_fn": torch.nn.MSELoss()}]),
            r"ScheduledLoss\(args, kwargs\)",
        ),
        (lambda loss: (1, 1), r"<lambda>\(loss\)"),
        (lambda opt, epoch: (1, 1), r"<lambda>\(epoch, opt\)"),
        (lambda: (1, 1), r"<lambda>\(\)"),
    ],
)
def test_what_is_no_scheduler_is_refused(scheduler, told):
    with pytest.raises(ValueError, match=f"^lr_annealing: .* not {told}"):
        LearningRate(scheduler)
