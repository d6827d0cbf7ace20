"""Signals: heard while subscribed, and free where nobody listens."""

from switchgear.model.signal import Signal, SignalKind, emit, listening, subscribe


def test_a_listener_hears_signals_while_it_is_subscribed():
    class Ear:
        def __init__(self):
            self.heard = []

        def hear(self, signal):
            self.heard.append(signal)

    ear, other = Ear(), []
    signal = Signal(SignalKind.CALL_ENDED, "orders -> pay", {"ok": True})
    assert not listening()
    with subscribe(ear.hear), subscribe(other.append):
        assert listening()
        emit(signal)
    emit(signal)
    assert ear.heard == other == [signal]
    assert not listening()
