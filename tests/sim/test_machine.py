"""The machine in virtual time, with programs of a few lines."""

import pytest

from pytest_nrfdfu.sim.chip import Chip, ResetCause
from pytest_nrfdfu.sim.faults import Faults
from pytest_nrfdfu.sim.firmware import Erase, FlashTiming, Idle, Reboot, Send, Sleep, Start, Write
from pytest_nrfdfu.sim.machine import Machine
from pytest_nrfdfu.sim.uart import Uart, UartConfig
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import encode
from pytest_nrfdfu.smp.messages import ImageStateRead, UploadRequest

BYTE = 10 / 115200
PAGE = 0x10000


class Script:
    """A program from a list of effects; notes when it got on, and what it received."""

    def __init__(self, *effects):
        self.effects = effects
        self.received = b""
        self.machine = None
        self.at = []

    def interrupt(self, data):
        self.received += data

    def main(self):
        self.at.append(self.machine._now)
        for effect in self.effects:
            yield effect
            self.at.append(self.machine._now)


class Board:
    """A machine whose bootloader is a script; every boot makes a new one."""

    def __init__(self, *effects, timing=None, power=True, seed=0, spoil=lambda _address: None, **uart):
        self.chip = Chip()
        if not power:
            self.chip.set_power(False)
        self.boots = []
        self.effects = effects
        self.faults = Faults(seed)
        self.machine = Machine(
            self.chip,
            self.boot,
            uart=Uart(UartConfig(**uart), self.faults),
            timing=timing or FlashTiming(),
            spoil=spoil,
        )

    def boot(self):
        program = Script(*self.effects)
        program.machine = self.machine
        self.boots.append(program)
        return program

    @property
    def program(self):
        return self.boots[-1]

    def run(self, until):
        """Advance event by event; returns (time, bytes) of what the board sent."""
        sent = []
        while (event := self.machine.next_event()) is not None and event <= until:
            if data := self.machine.advance(event):
                sent.append((event, data))
        if data := self.machine.advance(until):
            sent.append((until, data))
        return sent


def test_nothing_runs_without_power():
    board = Board(Send(b"hello"), power=False)
    assert board.machine.next_event() is None
    assert board.run(1.0) == []
    board.chip.set_power(True)
    assert board.run(2.0) == [(1.0 + 5 * BYTE, b"hello")]


def test_sending_takes_wire_time_and_bytes_come_out_line_by_line():
    board = Board(Send(b"ab\ncdef\n"), Send(b"g"))
    assert board.run(1.0) == [
        (3 * 10 / 115200, b"ab\n"),
        (8 * 10 / 115200, b"cdef\n"),
        (8 * 10 / 115200 + 10 / 115200, b"g"),
    ]
    assert board.program.at == [0.0, 8 * 10 / 115200, 8 * 10 / 115200 + 10 / 115200]


def test_an_idle_program_is_woken_when_the_newline_arrives():
    board = Board(Idle(), Idle())
    board.machine.receive(b"one\ntwo\n", 0.5)
    board.run(0.5 + 5 * BYTE)
    assert board.program.at[1:] == [0.5 + 4 * 10 / 115200]
    assert board.program.received == b"one\n"
    board.run(1.0)
    assert board.program.at[2:] == [0.5 + 8 * 10 / 115200]
    assert board.program.received == b"one\ntwo\n"


def test_one_late_call_gives_the_same_times_as_many():
    board = Board(Idle(), Send(b"answer\n"), Idle(0.25), Sleep(0.1))
    board.machine.receive(b"ask\n", 0.0)
    assert board.machine.advance(10.0) == b"answer\n"
    assert board.program.at == pytest.approx([0.0, 4 * BYTE, 11 * BYTE, 11 * BYTE + 0.25, 11 * BYTE + 0.35])


def test_idle_times_out():
    board = Board(Idle(0.25))
    assert board.machine.next_event() == 0.0
    board.machine.advance(0.0)
    assert board.machine.next_event() == 0.25
    board.run(1.0)
    assert board.program.at == [0.0, 0.25]


def test_interrupts_go_on_while_the_program_sleeps_sends_or_has_ended():
    for effects in ((Sleep(1.0),), (Send(b"x" * 11520),), ()):
        board = Board(*effects)
        board.machine.receive(b"y" * 1000, 0.0)
        board.run(500 * BYTE)
        assert board.program.received == b"y" * 500
        board.run(1.0)
        assert board.program.received == b"y" * 1000
        assert board.machine.uart.counters.overrun == 0


def test_an_erase_stalls_reception_but_for_the_fifo():
    board = Board(Erase(PAGE), Idle(), fifo=6)
    board.chip.program(PAGE, b"\0\0\0\0")
    board.machine.receive(bytes(range(200)) * 10, 0.0)
    board.run(0.0875)
    arrived = round(0.0875 / BYTE)
    assert board.program.received == bytes(range(6))
    assert board.machine.uart.counters.overrun == arrived - 6
    assert board.chip.read(PAGE, 4) == b"\xff" * 4
    board.run(1.0)
    assert board.program.received == bytes(range(6)) + (bytes(range(200)) * 10)[arrived:]


@pytest.mark.parametrize("stall", ["none", "erase"])
def test_what_does_not_stall_loses_nothing(stall):
    effect = Erase(PAGE) if stall == "none" else Write(PAGE, bytes(4000))
    board = Board(effect, Idle(), stall=stall, baudrate=1_000_000)
    board.machine.receive(bytes(4000), 0.0)
    board.run(1.0)
    assert board.program.received == bytes(4000)


def test_a_word_write_stalls_only_as_long_as_one_word():
    # At 1 Mbaud 4.3 bytes arrive in the 43 us of a word: a FIFO of six holds them, a FIFO of one does not.
    words = 100
    for fifo, lost in ((6, 0), (1, 430 - words)):
        board = Board(Write(PAGE, bytes(4 * words)), Idle(), stall="erase+write", baudrate=1_000_000, fifo=fifo)
        board.machine.receive(bytes(430), 0.0)
        board.run(1.0)
        assert board.machine.uart.counters.overrun == lost, fifo
        assert len(board.program.received) == 430 - lost


def test_flash_takes_its_time_and_holds_what_was_written():
    board = Board(Erase(PAGE), Write(PAGE, b"abcdefgh"))
    board.run(1.0)
    assert board.program.at == pytest.approx([0.0, 87.5e-3, 87.5e-3 + 86e-6])
    assert board.chip.read(PAGE, 8) == b"abcdefgh"


def test_flash_without_timing_takes_none():
    board = Board(Erase(PAGE), Write(PAGE, bytes(4096)), timing=FlashTiming(0.0, 0.0))
    board.run(0.0)
    assert board.program.at == [0.0, 0.0, 0.0]


def test_a_reset_drops_the_program_and_what_it_was_sending():
    board = Board(Send(b"x" * 100), Sleep(9.0))
    assert board.run(10.5 * BYTE) == [(10.5 * BYTE, b"x" * 10)]
    board.chip.reset(ResetCause.SREQ)
    assert len(board.boots) == 1
    board.run(11 * BYTE)
    assert len(board.boots) == 2
    assert board.boots[0].at == [0.0]
    assert board.boots[1].at == [10.5 * BYTE]


def test_a_reset_in_mid_write_leaves_the_words_whose_time_had_passed():
    board = Board(Write(PAGE, b"abcdefghijklmnop"), Idle())
    board.run(2.5 * 43e-6)
    board.effects = ()
    board.chip.reset(ResetCause.CTRLAP)
    assert board.chip.read(PAGE, 16) == b"abcdefgh" + b"\xff" * 8


def test_a_page_whose_erase_was_cut_off_counts_as_erased():
    board = Board(Erase(PAGE))
    board.chip.program(PAGE, b"\0\0\0\0")
    board.run(0.01)
    board.chip.set_power(False)
    assert board.chip.read(PAGE, 4) == b"\xff" * 4


def test_or_it_is_whatever_the_machine_is_told_to_make_of_it():
    spoilt = []
    board = Board(Erase(PAGE), Write(PAGE, bytes(4)), spoil=spoilt.append)
    board.machine.advance(0.05)
    board.chip.reset(ResetCause.SREQ)
    assert spoilt == [PAGE]
    board.machine.advance(0.15)  # the erase ended, and the program too
    board.chip.reset(ResetCause.SREQ)
    assert spoilt == [PAGE]
    board.machine.advance(0.20)
    board.chip.set_power(False)
    board.chip.set_power(True)
    assert spoilt == [PAGE, PAGE]


def test_the_host_s_bytes_do_not_survive_a_pin_reset():
    board = Board(Idle(), Idle())
    board.run(0.1)
    board.chip.drive_nreset("test", low=True)
    board.machine.receive(b"lost\n", 0.1)
    board.run(0.2)
    board.chip.drive_nreset("test", low=False)
    board.machine.receive(b"heard\n", 0.2)
    board.run(0.3)
    assert len(board.boots) == 2
    assert board.program.received == b"heard\n"
    assert board.machine.uart.counters.lost_in_reset + board.machine.uart.counters.overrun == 5
    assert board.chip.resetreas == ResetCause.RESETPIN


def halt(chip, on):
    chip.bus_write(0, 0xE000EDF0, 0xA05F0003 if on else 0xA05F0001)


def test_a_halted_cpu_stands_still_and_loses_bytes_beyond_the_fifo():
    board = Board(Send(b"x" * 100), Sleep(0.5), Idle(), fifo=6)
    board.run(50 * BYTE)
    halt(board.chip, on=True)
    assert not board.chip.cpu_runs
    board.machine.receive(b"0123456789", 50 * BYTE)
    assert board.run(5.0) == []
    halt(board.chip, on=False)
    sent = board.run(9.0)
    assert sent == [(pytest.approx(5.0 + 50 * BYTE), b"x" * 50)]
    assert board.program.at == pytest.approx([0.0, 5.0 + 50 * BYTE, 5.5 + 50 * BYTE])
    assert board.program.received == b"012345"
    assert board.machine.uart.counters.overrun == 4


def test_a_halt_lengthens_a_sleep_and_a_write():
    board = Board(Sleep(0.5), Write(PAGE, b"abcdefgh"), Idle())
    for begin in (0.2, 1.5 + 43e-6):
        board.run(begin)
        halt(board.chip, on=True)
        board.run(begin + 1.0)
        halt(board.chip, on=False)
    board.run(9.0)
    assert board.program.at == pytest.approx([0.0, 1.5, 2.5 + 86e-6])


def test_the_clock_is_asked_when_the_chip_is_reset_from_outside():
    board = Board(Send(b"x" * 100))
    woken = []
    board.machine.on_wake = lambda: woken.append(True)
    board.run(0.0)
    board.machine.clock = lambda: 20 * BYTE
    board.chip.reset(ResetCause.SREQ)
    assert woken
    assert board.machine.advance(20 * BYTE) == b"x" * 20
    assert board.program.at == [20 * BYTE]


def test_reboot_and_start():
    board = Board(Sleep(0.5), Reboot(), Send(b"never"))
    board.run(0.75)
    assert [boot.at for boot in board.boots] == [[0.0, 0.5], [0.5]]
    assert board.chip.resetreas == ResetCause.SREQ

    application = Script(Send(b"application\n"), Idle())
    board = Board(Sleep(0.5), Start(application), Send(b"never"))
    application.machine = board.machine
    assert [data for _, data in board.run(1.0)] == [b"application\n"]
    assert board.machine.program is application
    board.machine.receive(b"hello\n", 1.0)
    board.run(2.0)
    assert application.received == b"hello\n"


def test_a_program_that_never_lets_time_pass_is_found_out():
    class Spin(Script):
        def main(self):
            while True:
                yield Idle(0.0)

    board = Board()
    board.boot = Spin
    machine = Machine(board.chip, Spin)
    with pytest.raises(RuntimeError, match="time pass"):
        machine.advance(1.0)


def test_a_hang_lasts_until_reset():
    board = Board(Idle(), Send(b"alive\n"), Idle())
    board.run(0.1)
    board.machine.hang()
    board.machine.receive(b"ping\n", 0.1)
    assert board.run(1.0) == []
    board.chip.reset(ResetCause.RESETPIN)
    board.machine.receive(b"ping\n", 1.0)
    assert [data for _, data in board.run(2.0)] == [b"alive\n"]


def test_interjected_text_breaks_into_what_is_sent_and_delays_it():
    board = Board(Send(b"abcdef"), Sleep(0.0))
    board.run(2 * BYTE)
    board.machine.interject(b"[00:00] <err>\r\n")
    assert b"".join(data for _, data in board.run(1.0)) == b"[00:00] <err>\r\ncdef"
    assert board.program.at[1] == pytest.approx(21 * BYTE)


def upload(offset):
    return console.encode(encode(UploadRequest(off=offset, data=b"x" * 100, length=1000), 1, 1))


def answering(count):
    return [effect for _ in range(count) for effect in (Idle(), Idle(), Sleep(0.0), Send(b"ok\n"))]


@pytest.mark.parametrize(("cause", "reason"), [("POWER_ON", 0), ("DOG0", ResetCause.DOG0)])
def test_a_reset_in_the_middle_of_an_upload(cause, reason):
    board = Board(*[Idle()] * 50)
    board.faults.set_trip({"action": "reset", "uploads": 2, "delay": 0.05, "cause": cause})
    request = upload(0)
    board.machine.receive(console.encode(encode(ImageStateRead(), 0, 1)), 0.0)
    board.machine.receive(request, 1.0)
    board.machine.receive(request, 2.0)
    board.run(2.0 + len(request) * BYTE + 0.049)
    assert len(board.boots) == 1
    board.run(2.0 + len(request) * BYTE + 0.051)
    assert len(board.boots) == 2
    assert board.chip.resetreas == reason
    assert board.machine.tap.counters.uploads == 2
    assert board.machine.tap.counters.requests == 3
    board.machine.receive(request * 5, 3.0)
    board.run(4.0)
    assert len(board.boots) == 2, "it happens once"


def test_a_fault_strikes_in_the_middle_of_a_write():
    board = Board(Idle(), Write(PAGE, b"abcdefgh" * 100))
    board.faults.set_trip({"action": "reset", "received": 1, "delay": 1.5 * 43e-6})
    board.machine.receive(b"x", 0.0)
    board.run(1.0)
    assert len(board.boots) == 2
    assert board.chip.read(PAGE, 8) == b"abcd" + b"\xff" * 4


def test_a_hang_after_so_many_bytes():
    board = Board(*[Idle(), Send(b"ok\n")] * 5)
    board.faults.set_trip({"action": "hang", "received": 10})
    answers = []
    for start in range(4):
        board.machine.receive(b"1234\n", float(start))
        answers += board.run(start + 0.9)
    assert [data for _, data in answers] == [b"ok\n"]


def test_the_tap_keeps_what_passed():
    board = Board(Idle(), Send(b"text\r\n" + upload(0)))
    board.machine.receive(b"noise\n", 0.0)
    board.run(1.0)
    assert [(r.direction, r.kind, r.data) for r in board.machine.tap.records()] == [
        ("to board", "text", b"noise\n"),
        ("from board", "text", b"text\r\n"),
        ("from board", "packet", encode(UploadRequest(off=0, data=b"x" * 100, length=1000), 1, 1)),
    ]
    assert board.machine.tap.records(last=1)[0].kind == "packet"
    assert board.machine.tap.counters.responses == 1
    board.machine.tap.clear()
    assert board.machine.tap.records() == []
    assert board.machine.tap.counters.responses == 0


def test_damage_strikes_both_directions_and_is_counted():
    board = Board(Idle(), Idle(), Send(b"y" * 1000))
    board.faults.set_rate("to_board_drop_rate", 0.1)
    board.faults.set_rate("from_board_flip_rate", 0.1)
    board.machine.receive(b"x" * 1000 + b"\n", 0.0)
    sent = b"".join(data for _, data in board.run(1.0))
    assert len(board.program.received) == 1001 - board.faults.to_board.dropped
    assert 50 < board.faults.to_board.dropped < 150
    assert len(sent) == 1000
    assert 50 < sum(byte != ord("y") for byte in sent) == board.faults.from_board.flipped
