"""An application that stages its own update: the library's rules sans-IO, and the port of a real process."""

import asyncio
import contextlib
import gc
import re
import socket
import struct

import pytest
from app_server import PAGE, Bench
from simulator import Host, failure, image_hash, make_image, running, wait_until
from staging import StagingClient

from pytest_nrfdfu.sim.app_slots import ApplicationSlots
from pytest_nrfdfu.sim.app_staging import SavedProgress, StagingCommand, StagingService, parse_command
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.firmware import Erase, FlashTiming, Reboot
from pytest_nrfdfu.sim.slots import NRF5340_MULTI_IMAGE_SLOTS
from pytest_nrfdfu.sim.staging_port import StagingPort
from pytest_nrfdfu.sim_admin import SimAdmin
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, encode
from pytest_nrfdfu.smp.messages import EchoRequest

OLD, NEW = make_image("1.0.0"), make_image("2.0.0", 2 * PAGE)


class Stage:
    """A service over a bench's flash, command by command."""

    def __init__(self, **bench):
        self.bench = Bench(**{"slot0": OLD, **bench})
        self.slots = ApplicationSlots(self.bench.trailers, bench.get("images", 1))
        self.saved = SavedProgress()
        self.reset_chip()

    def reset_chip(self):
        """What is in RAM is gone."""
        self.service = StagingService(self.slots, self.saved)

    def say(self, line, data=b""):
        answers = []
        self.service.submit(parse_command(line)._replace(data=data), answers.append)
        self.bench.effects = []
        self.bench.apply(self.service.serve())
        (answer,) = answers
        return answer

    def send(self, image, start=0, chunk=1000):
        for offset in range(start, len(image), chunk):
            piece = image[offset : offset + chunk]
            assert self.say(f"write {offset} {len(piece)}", piece) == f"ok {offset + len(piece)}"

    @property
    def erased(self):
        return [effect.address for effect in self.bench.effects if isinstance(effect, Erase)]


@pytest.fixture
def stage():
    return Stage()


@pytest.mark.parametrize("swap", ["move", "offset", "overwrite"])
def test_an_image_is_staged_and_tested_at_the_next_boot(swap):
    stage = Stage(slot1=make_image("1.5.0", 5 * PAGE), swap=swap)
    assert stage.say(f"init {len(NEW)}") == "ok 0"
    stage.send(NEW)
    assert stage.bench.images().find(slot=1) is None  # its end with the hash is still in the buffer
    assert stage.say("done") == "ok"
    assert stage.bench.images().find(slot=1).hash == image_hash(NEW)
    assert stage.bench.flags(1) == set()
    assert stage.say("schedule") == "ok"
    assert stage.bench.flags(1) == {"pending"}


def test_it_erases_as_it_goes_and_the_last_page_at_the_end(stage):
    base = stage.bench.areas[1].address
    stage.say(f"init {len(NEW)}")
    stage.say("write 0 512", NEW[:512])
    assert stage.erased == [base]
    stage.say("write 512 3584", NEW[512:PAGE])
    assert stage.erased == []
    stage.say(f"write {PAGE} 512", NEW[PAGE : PAGE + 512])
    assert stage.erased == [base + PAGE]
    stage.say("done")
    assert stage.erased == [base + stage.bench.areas[1].size - PAGE]


def test_after_a_reset_it_goes_on_from_what_was_in_flash(stage):
    stage.say(f"init {len(NEW)}")
    stage.say("write 0 5000", NEW[:5000])
    stage.reset_chip()
    assert stage.say(f"init {len(NEW)}") == "ok 4608"  # nine buffers of 512 bytes
    stage.send(NEW, 4608)
    assert stage.say("done") == "ok"
    assert stage.bench.content(1, len(NEW)) == NEW
    stage.reset_chip()
    assert stage.say(f"init {len(NEW)}") == "ok 0"  # done forgets


def test_without_a_reset_nothing_is_lost_and_init_changes_nothing(stage):
    stage.say(f"init {len(NEW)}")
    stage.say("write 0 5000", NEW[:5000])
    assert stage.say("init 1") == "ok 5000"


@pytest.mark.parametrize("line", ["write 0 1", "done", "schedule", "reset"])
def test_init_comes_first(stage, line):
    assert stage.say(line, b"x") == "error 13 no target; init comes first"
    assert stage.bench.effects == []


def test_only_the_next_offset_is_written(stage):
    stage.say(f"init {len(NEW)}")
    stage.say("write 0 600", NEW[:600])
    assert stage.say("write 0 600", NEW[:600]) == "error 22 the next offset is 600, not 0"
    assert stage.say("write 1000 10", NEW[:10]) == "error 22 the next offset is 600, not 1000"
    assert stage.bench.effects == []


def test_sizes_are_bounded_by_the_slot(stage):
    size = stage.bench.areas[1].size
    assert stage.say(f"init {size + 1}") == f"error 27 {size + 1} bytes are more than the slot's {size}"
    assert stage.say(f"init {size}") == "ok 0"
    assert stage.say(f"write 0 {size + 1}", bytes(size + 1)) == "error 12 the slot is full"


def test_reset_gives_up_and_erases_the_slot(stage):
    stage.say(f"init {len(NEW)}")
    stage.send(NEW)
    stage.say("done")
    stage.say("schedule")
    assert stage.say("reset") == "ok"
    assert stage.bench.content(1) == b"\xff" * stage.bench.areas[1].size
    assert stage.say(f"init {len(NEW)}") == "ok 0"


def test_done_again_changes_nothing(stage):
    stage.say(f"init {len(NEW)}")
    stage.send(NEW)
    stage.say("done")
    stage.say("schedule")
    assert stage.say("done") == "ok"
    assert stage.erased == []
    assert stage.bench.flags(1) == {"pending"}


def test_behind_an_end_within_a_word_nothing_is_written(stage):
    """Zephyr's flash driver refuses to; the next offset is told all the same."""
    odd = make_image("2.0.0", 1001)
    assert len(odd) % 4
    stage.say(f"init {len(odd)}")
    stage.send(odd)
    stage.say("done")
    assert stage.say(f"init {len(odd)}") == f"ok {len(odd)}"
    answer = stage.say(f"write {len(odd)} 1000", bytes(1000))
    assert answer == "error 22 flash is written in words, and the image has ended within one"
    assert stage.say("reset") == "ok"
    assert stage.say(f"init {len(odd)}") == "ok 0"


def test_a_damaged_trailer_cannot_be_scheduled(stage):
    area = stage.bench.areas[1]
    stage.say(f"init {len(NEW)}")
    stage.bench.chip.program(area.address + area.size - 16, bytes(16))
    assert stage.say("schedule") == "error 14 the slot cannot be marked (boot_set_pending: 3)"
    stage.say("done")  # it erases the last page
    assert stage.say("schedule") == "ok"


def test_reboot_answers_first(stage):
    assert stage.say("reboot") == "ok"
    assert stage.bench.effects == [Reboot(0.1)]


def test_of_two_images_each_has_its_own_slot_and_progress():
    stage = Stage(areas=NRF5340_MULTI_IMAGE_SLOTS, images=2, swap="overwrite")
    assert stage.say(f"init {len(NEW)} 1") == "ok 0"
    stage.send(NEW)
    assert stage.say("done") == "ok"
    assert stage.bench.content(3, len(NEW)) == NEW
    assert stage.say("schedule 1") == "ok"
    assert stage.bench.flags(3) == {"pending"}
    assert stage.say(f"init {len(NEW)} 0") == "ok 0"
    assert stage.say("init 10 2") == "error 2 there is no image 2"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "no command ''"),
        ("hello", "no command 'hello'"),
        ("init", "1 or 2 numbers"),
        ("write 1 x", "2 numbers"),
        ("write -1 -2", "2 numbers"),
        ("init " + "9" * 5000, "at most 100 characters"),
        ("x" * 101, "at most 100 characters"),
    ],
)
def test_lines_that_are_no_commands(line, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_command(line)


def test_a_write_says_how_many_bytes_follow():
    assert parse_command("write 3 77\n") == StagingCommand("write", (3, 77))
    assert parse_command("write 3 77").payload == 77
    assert parse_command("init 3 7").payload == 0


def test_smp_is_answered_that_came_while_a_write_was_carried_out():
    board = SimBoard(BoardOptions(image=OLD, application_smp="full", staging=True))
    board.machine.advance(1.0)
    answers = []
    board.staging.submit(parse_command("init 512"), answers.append)
    board.staging.submit(parse_command("write 0 512")._replace(data=NEW[:512]), answers.append)
    board.machine.wake_program()
    erased = 1.0 + FlashTiming().erase_page
    board.machine.receive(console.encode(encode(EchoRequest("x"), 1)), erased)
    (answer,) = console.Decoder().feed(board.machine.advance(erased + 0.1))
    assert answers == ["ok 0", "ok 512"]
    assert decode(answer.data).payload == {"r": "x"}


# The port in a loop of its own.


def test_a_defect_is_no_client_that_is_gone():
    """It reaches whoever runs the loop, as one of the other ports does."""

    class Broken(StagingService):
        def submit(self, _command, _answer):
            raise RuntimeError("broken")

    reported = []

    async def run():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: reported.append(context))
        service = Broken(None, SavedProgress())
        port = StagingPort(lambda: service, lambda: None)
        reader, writer = await asyncio.open_connection("127.0.0.1", await port.start())
        writer.write(b"init 1\n")
        assert await reader.read() == b""
        writer.close()
        await port.close()

    asyncio.run(run())
    gc.collect()
    assert [str(context["exception"]) for context in reported] == ["broken"]


# A real process.


@pytest.fixture
def simulated(tmp_path):
    image = tmp_path / "old.bin"
    image.write_bytes(OLD)
    arguments = ("--staging", "--image", image, "--flash-timing", "none", "--baudrate", 0, "--bootloader-log")
    with running(*arguments, "--application", "3.0.0=hangs") as process:
        yield process


def serves(process):
    with StagingClient(process["staging"]) as client:
        return client.say("init 100") == "ok 0"


def test_a_process_takes_an_update_over_its_port(simulated):
    with Host(simulated["uart"]) as host, SimAdmin(simulated["admin"]) as admin:
        admin.press_reset()
        host.expect(b"application 1.0.0")
        wait_until(lambda: serves(simulated), "the application serves")  # the text may be of the boot before the reset
        with StagingClient(simulated["staging"]) as client:
            assert client.say("bake a cake").startswith("error 22 there is no command 'bake'")
            assert client.say(f"init {len(NEW)}") == "ok 0"
            assert client.say("write 5 3", b"abc") == "error 22 the next offset is 0, not 5"
            assert client.say("write 0 5000", NEW[:5000]) == "ok 5000"
        with StagingClient(simulated["staging"]) as client:  # a connection is no session
            assert client.say(f"init {len(NEW)}") == "ok 5000"
            assert client.say(f"write 5000 {len(NEW) - 5000}", NEW[5000:]) == f"ok {len(NEW)}"
            assert client.say("done") == "ok"
            assert client.say("schedule") == "ok"
            assert admin.trailer(1)["swap_type"] == "test"
            assert client.say("reboot") == "ok"
            assert client.file.readline() == b""  # the reset takes the connection away
        host.expect(b"application 2.0.0")
        assert admin.trailer(0) == {"magic": "set", "swap_type": "test", "copy_done": "set", "image_ok": "unset"}
        assert admin.flash_hash(0).version == "2.0.0"


def test_the_port_is_closed_to_everybody_while_no_application_serves_it(simulated):
    wait_until(lambda: serves(simulated), "the application serves")
    with SimAdmin(simulated["admin"]) as admin:
        with StagingClient(simulated["staging"]) as client:
            assert client.say("init 100") == "ok 0"
            admin.set_reset_pin(low=True)
            assert client.file.readline() == b""
        with StagingClient(simulated["staging"]) as client:
            assert client.say("init 100") == ""
        admin.set_reset_pin(low=False)
        wait_until(lambda: serves(simulated), "the application serves again")


def test_a_client_that_goes_away_in_the_middle_harms_nobody(simulated):
    wait_until(lambda: serves(simulated), "the application serves")
    with StagingClient(simulated["staging"]) as client:
        client.socket.sendall(b"write 0 1000\nabc")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with StagingClient(simulated["staging"]) as client:
        assert client.say("write 0 3", b"abc") == "ok 3"


@pytest.mark.parametrize(
    "said", [b"write 0 1048577\n", b"x" * (3 << 20), b"write 0 " + b"9" * 60 + b"\n"], ids=["large", "endless", "huge"]
)
def test_what_nobody_would_take_ends_the_connection_and_no_other(simulated, said):
    wait_until(lambda: serves(simulated), "the application serves")
    with StagingClient(simulated["staging"]) as other:
        with StagingClient(simulated["staging"]) as client, contextlib.suppress(ConnectionError):
            client.socket.sendall(said)
            assert client.file.readline() == b""
        assert other.say("init 100") == "ok 0"


def test_a_client_that_reads_no_answers_does_not_keep_the_process(simulated):
    wait_until(lambda: serves(simulated), "the application serves")
    client = StagingClient(simulated["staging"])
    client.socket.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            client.socket.sendall(b"nonsense\n" * 10_000)
    assert simulated.stop() == (0, "")
    client.__exit__()


def test_without_staging_there_is_no_port():
    with running("--uart", "tcp") as process:
        assert "staging" not in process.endpoints


def test_a_behaviour_that_there_is_not_is_said_so():
    status, errors = failure("--application", "1.0.0=explodes")
    assert status == 2
    assert "'1.0.0=explodes' is not VERSION=BEHAVIOUR" in errors
