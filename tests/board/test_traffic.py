"""What passed on a port is kept, the last of it."""

from pytest_nrfdfu.board.traffic import Traffic, TrafficLog


def test_the_oldest_go_where_there_is_no_room():
    log = TrafficLog(limit=10)
    for n in range(8):
        log.append(Traffic(float(n), "rx", b"%03d" % n))
    assert [record.data for record in log] == [b"005", b"006", b"007"]
    assert len(log) == 3


def test_one_record_over_the_limit_is_kept():
    log = TrafficLog(limit=2)
    log.append(Traffic(0.0, "tx", b"long"))
    assert [record.data for record in log] == [b"long"]
    log.append(Traffic(1.0, "rx", b"x"))
    assert [record.data for record in log] == [b"x"]


def test_who_reads_is_not_disturbed_by_who_adds():
    log = TrafficLog()
    log.append(Traffic(0.0, "tx", b"a"))
    reading = iter(log)
    log.append(Traffic(1.0, "tx", b"b"))
    assert [record.data for record in reading] == [b"a"]
