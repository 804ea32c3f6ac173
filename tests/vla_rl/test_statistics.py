import numpy as np
import pytest

from vla_rl.statistics import gap_closed, paired_difference, two_level_bootstrap, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (1, 29, 0.0061, 0.1718),  # Newcombe 1998, table I
    ],
)
def test_wilson_gives_published_intervals(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


def test_wilson_refuses_impossible_counts():
    for successes, n in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="0 <= successes <= n"):
            wilson(successes, n)


def test_bootstrap_of_identical_seeds_matches_the_binomial():
    """Seeds that all have p = 1/2 over 100 episodes: the mean of 4 has standard deviation 0.5 / sqrt(400) = 0.025."""
    interval = two_level_bootstrap([np.arange(100) % 2] * 4)
    assert interval.value == 0.5
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.008)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.008)


def test_bootstrap_resamples_seeds():
    """Of two seeds, one always and one never succeeds: both draws are the bad seed in a quarter of resamples."""
    assert two_level_bootstrap([np.ones(1000), np.zeros(1000)]) == (0.5, 0.0, 1.0)


def test_bootstrap_resamples_episodes_within_tasks():
    """A task that always and one that never succeeds: episodes drawn within tasks leave no spread."""
    assert two_level_bootstrap([np.array([[1] * 20, [0] * 20])]) == (0.5, 0.5, 0.5)


def test_bootstrap_repeats_exactly():
    outcomes = [np.arange(30) % 3 == 0, np.arange(30) % 2 == 0]
    assert two_level_bootstrap(outcomes) == two_level_bootstrap(outcomes)


def test_paired_difference_uses_the_pairing():
    """Ours wins each episode that theirs wins, plus one in ten: unpaired resampling would be several times wider."""
    theirs = [np.tile([1, 0, 1, 0, 1, 0, 1, 0, 1, 0], 20)] * 2
    ours = [np.tile([1, 1, 1, 0, 1, 0, 1, 0, 1, 0], 20)] * 2
    difference = paired_difference(ours, theirs)
    assert difference.value == pytest.approx(0.1)
    assert 0.06 < difference.low < 0.08 and 0.12 < difference.high < 0.14  # ± 1.96 · sqrt(0.1 · 0.9 / 400) = 0.029
    assert paired_difference(theirs, theirs) == (0.0, 0.0, 0.0)


def test_paired_difference_refuses_other_shapes():
    with pytest.raises(ValueError, match="equal"):
        paired_difference([np.ones(5)], [np.ones(5), np.ones(5)])
    with pytest.raises(ValueError, match="different"):
        two_level_bootstrap([np.ones(5), np.ones(6)])


def test_gap_closed_by_hand():
    """From 0.2 to 0.8 with a teacher at 0.9 (one policy for both seeds): 0.6 / 0.7."""
    rates = {rate: np.arange(100) < 100 * rate for rate in (0.2, 0.8, 0.9)}
    gap = gap_closed([rates[0.2]] * 2, [rates[0.8]] * 2, [rates[0.9]])
    assert gap is not None
    assert gap.value == pytest.approx(0.6 / 0.7)
    assert 0.75 < gap.low < gap.value < gap.high < 0.95


def test_gap_that_is_not_there_gives_no_fraction():
    half, most = np.arange(40) % 2, np.arange(40) % 20 < 11
    assert gap_closed([half], [most], [half]) is None
    assert gap_closed([half], [half], [most]) is None


def test_outcomes_must_be_zero_or_one():
    with pytest.raises(ValueError, match="0 or 1"):
        two_level_bootstrap([np.array([0.0, np.nan])])
    with pytest.raises(ValueError, match="no episodes"):
        two_level_bootstrap([])
