"""Faults go into a service and signals come out of it through two files."""

from switchgear.drills.control import Entry, FaultFile, Faults, SignalFile, read_signals


def test_a_service_sees_the_faults_that_a_drill_sets_and_that_it_is_healed(tmp_path):
    drill, service = FaultFile(tmp_path / "f.json"), FaultFile(tmp_path / "f.json")
    assert service.of("stock") == Faults()
    drill.set(stock=Faults(sleep=0.8))
    assert service.of("stock") == Faults(sleep=0.8)
    assert service.of("reserve") == Faults()
    drill.set(**{"*": Faults(fail=True)})
    assert service.of("reserve").fail
    drill.set()
    assert service.of("stock") == Faults()


def test_signals_are_read_back_in_order_and_a_torn_line_is_left_out(tmp_path):
    path = tmp_path / "s"
    assert read_signals(path) == []
    file = SignalFile(path)
    file.write("call.ended", "gateway", {"outcome": "ok"})
    file.write("drill.busy", "workers", {"busy": 3})
    with path.open("a") as torn:
        torn.write('{"at": 1, "ki')
    first, second = read_signals(path)
    assert isinstance(first, Entry)
    assert (first.kind, first.subject, first.detail) == ("call.ended", "gateway", {"outcome": "ok"})
    assert second.detail == {"busy": 3}
    assert first.at <= second.at
