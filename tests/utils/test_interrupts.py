"""What is interrupted is whole."""

import os
import signal

import pytest

from recbole_perpeft.utils.interrupts import interrupts_wait


def test_an_interrupt_acts_at_the_end_and_the_next_one_at_once():
    done = []

    def make():
        with interrupts_wait():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        make()
    assert done == ["whole"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_without_an_interrupt_nothing_is_raised_and_errors_pass():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="as it is"), interrupts_wait():
        raise ValueError("as it is")
    assert signal.getsignal(signal.SIGINT) is before
