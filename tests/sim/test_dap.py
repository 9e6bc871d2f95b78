"""Debug port and access ports as specification, and the probe protocol that serves them."""

import asyncio
import json

import pytest

from pytest_nrfdfu.sim.chip import Chip, ResetCause
from pytest_nrfdfu.sim.dap import Dap, FaultAck, NoAck, Unplugged
from pytest_nrfdfu.sim.probe_server import ProbeServer, Status

ABORT, CTRL_STAT, SELECT, RDBUFF = 0x0, 0x4, 0x8, 0xC
CSW, TAR, DRW = 0x0, 0x4, 0xC
POWER_UP = 0x50000000
STICKYERR = 1 << 5
DEVICE_ENABLED, SECURE_ENABLED = 1 << 6, 1 << 23
RAM, RESETREAS, FORCEOFF = 0x20000000, 0x50005400, 0x50005614
CSW_WORD, CSW_BYTE = 0x23000012, 0x23000010
DEADLINE = 20.0


@pytest.fixture
def chip():
    return Chip()


@pytest.fixture
def dap(chip):
    port = Dap(chip)
    port.write_dp(CTRL_STAT, POWER_UP)
    return port


def select(dap, access_port, register=0):
    dap.write_dp(SELECT, access_port << 24 | register & 0xF0)


def read_ap(dap, access_port, register):
    select(dap, access_port, register)
    return dap.read_ap(register)


def write_ap(dap, access_port, register, value):
    select(dap, access_port, register)
    dap.write_ap(register, value)


def read_memory(dap, address, access_port=0):
    write_ap(dap, access_port, TAR, address)
    return dap.read_ap(DRW)


class TestDebugPort:
    def test_idr_is_a_version_2_port_of_arm(self, dap):
        assert dap.read_dp(0) >> 12 & 0xF == 2
        assert dap.read_dp(0) & 0xFFF == 0x477

    def test_power_requests_are_acknowledged(self, dap):
        assert dap.read_dp(CTRL_STAT) >> 28 == 0xF
        dap.write_dp(CTRL_STAT, 0)
        assert dap.read_dp(CTRL_STAT) == 0

    def test_bank_2_is_the_target_id_of_nordic(self, dap):
        dap.write_dp(SELECT, 2)
        assert dap.read_dp(CTRL_STAT) & 0xFFF == 0x289

    def test_access_without_debug_power_faults(self, chip):
        dap = Dap(chip)
        with pytest.raises(FaultAck):
            dap.read_ap(CSW)

    def test_after_a_fault_everything_faults_until_it_is_cleared(self, dap):
        with pytest.raises(FaultAck):
            read_memory(dap, 0x60000000)
        assert dap.read_dp(CTRL_STAT) & STICKYERR
        with pytest.raises(FaultAck):
            read_memory(dap, RAM)
        dap.write_dp(ABORT, 1 << 2)
        assert not dap.read_dp(CTRL_STAT) & STICKYERR
        assert read_memory(dap, RAM) == 0

    def test_rdbuff_holds_the_last_read_of_an_access_port(self, dap):
        value = read_ap(dap, 2, 0xFC)
        assert dap.read_dp(RDBUFF) == value

    def test_loss_of_power_is_silence_and_forgets_the_port(self, chip, dap):
        chip.set_power(False)
        with pytest.raises(NoAck):
            dap.read_dp(0)
        chip.set_power(True)
        assert dap.read_dp(CTRL_STAT) == 0

    @pytest.mark.parametrize(("loses", "status"), [(False, 0xF), (True, 0)])
    def test_pin_reset_may_cost_the_port_its_state(self, loses, status):
        dap = Dap(Chip(loses_dp_on_pin_reset=loses))
        dap.write_dp(CTRL_STAT, POWER_UP)
        dap.drive_nreset(True)
        dap.drive_nreset(False)
        assert dap.read_dp(CTRL_STAT) >> 28 == status


class TestAccessPorts:
    def test_there_are_four(self, dap):
        assert [read_ap(dap, n, 0xFC) for n in range(6)] == [0x84770001] * 2 + [0x12880000] * 2 + [0, 0]

    def test_words_advance_the_address_and_wrap_within_1_kib(self, chip, dap):
        write_ap(dap, 0, CSW, CSW_WORD)
        write_ap(dap, 0, TAR, RAM + 0x3FC)
        dap.write_ap(DRW, 0x11223344)
        assert dap.read_ap(TAR) == RAM
        assert chip.read(RAM + 0x3FC, 4) == bytes.fromhex("44332211")

    def test_bytes_travel_in_their_lanes(self, chip, dap):
        write_ap(dap, 0, CSW, CSW_BYTE)
        write_ap(dap, 0, TAR, RAM + 1)
        dap.write_ap(DRW, 0xAB00)
        dap.write_ap(DRW, 0xCD0000)
        assert chip.read(RAM, 4) == bytes.fromhex("00abcd00")
        dap.write_ap(TAR, RAM + 2)
        assert dap.read_ap(DRW) >> 16 & 0xFF == 0xCD

    def test_banked_data_registers_reach_four_words(self, chip, dap):
        write_ap(dap, 0, TAR, RAM + 4)
        write_ap(dap, 0, 0x1C, 7)
        assert chip.read(RAM + 0xC, 4) == b"\x07\0\0\0"
        assert read_ap(dap, 0, 0x1C) == 7

    def test_transfers_wider_than_a_word_are_not_taken(self, dap):
        write_ap(dap, 0, CSW, 0x23000013)
        assert dap.read_ap(CSW) & 7 == 2

    def test_network_port_is_disabled_under_force_off(self, dap):
        assert not read_ap(dap, 1, CSW) & DEVICE_ENABLED
        with pytest.raises(FaultAck):
            read_memory(dap, RAM, access_port=1)
        dap.write_dp(ABORT, 1 << 2)
        write_ap(dap, 0, TAR, FORCEOFF)
        dap.write_ap(DRW, 0)
        assert read_ap(dap, 1, CSW) & DEVICE_ENABLED
        assert read_memory(dap, RAM, access_port=1) == 0

    def test_rom_tables_lead_to_the_four_parts_of_a_cortex_m33(self, dap):
        base = read_ap(dap, 0, 0xF8) & ~0xFFF
        table = base + read_memory(dap, base) & ~0xFFF
        found = []
        for index in range(4):
            entry = read_memory(dap, table + 4 * index)
            component = (table + (entry & ~0xFFF)) & 0xFFFFFFFF
            found.append((component, read_memory(dap, component + 0xFE0), read_memory(dap, component + 0xFBC)))
        assert [hex(c) for c, _, _ in found] == ["0xe000e000", "0xe0001000", "0xe0002000", "0xe0000000"]
        assert {part for _, part, _ in found} == {0x21}
        assert [arch & 0xFFFF for _, _, arch in found] == [0x2A04, 0x1A02, 0x1A03, 0x1A01]
        assert read_memory(dap, table + 16) == 0


class TestCtrlAp:
    def test_reset_holds_while_1_and_resets_when_0(self, chip, dap):
        write_ap(dap, 2, 0, 1)
        assert not chip.cpu_runs
        assert dap.read_ap(0) == 1
        dap.write_ap(0, 0)
        assert chip.cpu_runs
        assert chip.resetreas == ResetCause.CTRLAP

    def test_a_locked_chip_can_be_reset_and_erased_and_nothing_else(self):
        chip = Chip(locked=True)
        dap = Dap(chip)
        dap.write_dp(CTRL_STAT, POWER_UP)
        assert not read_ap(dap, 0, CSW) & DEVICE_ENABLED
        with pytest.raises(FaultAck):
            read_memory(dap, RESETREAS)
        dap.write_dp(ABORT, 1 << 2)
        write_ap(dap, 2, 0, 1)
        write_ap(dap, 2, 0, 0)
        assert chip.counters.resets[ResetCause.CTRLAP] == 1
        write_ap(dap, 2, 4, 1)
        assert read_memory(dap, RESETREAS) == ResetCause.CTRLAP

    def test_busy_and_erase_protection_can_be_read(self):
        chip = Chip(clock=lambda: 0.0)
        dap = Dap(chip)
        dap.write_dp(CTRL_STAT, POWER_UP)
        assert read_ap(dap, 2, 0x18) == 1  # not protected
        assert read_ap(dap, 3, 8) == 0
        write_ap(dap, 3, 4, 1)
        assert read_ap(dap, 3, 8) == 1

    def test_firmware_key_opens_the_port(self):
        chip = Chip(locked=True)
        dap = Dap(chip)
        dap.write_dp(CTRL_STAT, POWER_UP)
        chip.unlock_key = 0xCAFE
        write_ap(dap, 2, 0x10, 0xCAFE)
        assert read_ap(dap, 0, CSW) & DEVICE_ENABLED

    def test_another_chip_has_another_identity(self, dap):
        dap.wrong_chip = True
        assert read_ap(dap, 2, 0xFC) == read_ap(dap, 3, 0xFC) == 0x02880000
        dap.wrong_chip = False
        assert read_ap(dap, 2, 0xFC) == read_ap(dap, 3, 0xFC) == 0x12880000


@pytest.mark.parametrize(
    ("options", "enabled"),
    [({}, DEVICE_ENABLED | SECURE_ENABLED), ({"secure_locked": True}, DEVICE_ENABLED), ({"locked": True}, 0)],
)
def test_csw_tells_what_can_be_reached(options, enabled):
    dap = Dap(Chip(**options))
    dap.write_dp(CTRL_STAT, POWER_UP)
    assert read_ap(dap, 0, CSW) & (DEVICE_ENABLED | SECURE_ENABLED) == enabled


def test_secure_memory_of_a_chip_locked_on_that_side_faults():
    dap = Dap(Chip(secure_locked=True))
    dap.write_dp(CTRL_STAT, POWER_UP)
    assert read_memory(dap, 0x40005400) == 0
    with pytest.raises(FaultAck):
        read_memory(dap, RESETREAS)


def test_pulling_the_probe_lets_go_of_nreset(chip, dap):
    dap.drive_nreset(True)
    dap.plugged = False
    assert chip.resetreas == ResetCause.RESETPIN
    with pytest.raises(Unplugged):
        dap.read_dp(0)
    with pytest.raises(Unplugged):
        dap.drive_nreset(True)
    dap.plugged = True
    assert dap.read_dp(0)


class Client:
    """A bare client of the probe protocol."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.next_id = 0

    def send(self, request, *arguments):
        self.next_id += 1
        message = {"id": self.next_id, "request": request}
        if arguments:
            message["arguments"] = arguments
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def answer(self):
        return json.loads(await self.reader.readline())

    async def ask(self, request, *arguments):
        self.send(request, *arguments)
        answer = await self.answer()
        assert answer["id"] == self.next_id
        return answer

    async def get(self, request, *arguments):
        answer = await self.ask(request, *arguments)
        assert answer["status"] == Status.OK, answer
        return answer.get("result")

    def die(self):
        self.writer.transport.abort()


class Bench:
    """A served probe and the clients that connect to it."""

    def __init__(self, server):
        self.server = server
        self.port = 0
        self.clients = []

    async def client(self, *, opened=True):
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        if opened:
            await client.get("hello", 1)
            await client.get("open")
        return client

    async def until(self, condition):
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0)


def serve(scenario, *, chip=None, **options):
    """Run `scenario(bench)` against a server in one event loop."""

    async def run():
        server = ProbeServer(Dap(chip or Chip()), unique_id="1050012345", **({"hold_time": 0.0} | options))
        bench = Bench(server)
        bench.port = await server.start()
        try:
            async with asyncio.timeout(DEADLINE):
                await scenario(bench)
        finally:
            for client in bench.clients:
                client.writer.close()
            await server.close()
        assert server.clients == 0

    asyncio.run(run())


class TestProtocol:
    def test_registers_and_memory_are_reached(self):
        async def scenario(bench):
            client = await bench.client()
            await client.get("connect", "DEFAULT")
            assert await client.get("readprop", "wire_protocol") == "SWD"
            await client.get("swj_sequence", 51, 0x7FFFFFFFFFFFF)
            await client.get("set_clock", 1000000)
            assert await client.get("read_dp", 0) == 0x6BA02477
            await client.get("write_dp", CTRL_STAT, POWER_UP)
            assert await client.get("read_ap", CSW) & DEVICE_ENABLED
            await client.get("write_ap", TAR, RAM)
            await client.get("write_ap_multiple", DRW, [1, 2, 3])
            await client.get("write_ap", TAR, RAM)
            assert await client.get("read_ap_multiple", DRW, 4) == [1, 2, 3, 0]
            await client.get("flush")
            await client.get("disconnect")
            await client.get("close")

        serve(scenario)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("vendor_name", "Simulated"),
            ("unique_id", "1050012345"),
            ("supported_wire_protocols", ["DEFAULT", "SWD"]),
            ("capabilities", ["BANKED_DP_REGISTERS", "APv2_ADDRESSES"]),
            ("wire_protocol", None),
        ],
    )
    def test_properties(self, name, value):
        async def scenario(bench):
            client = await bench.client()
            assert await client.get("readprop", name) == value

        serve(scenario)

    def test_what_is_not_offered_says_so(self):
        async def scenario(bench):
            client = await bench.client()
            assert await client.get("has_swo") is False
            assert await client.get("get_memory_interface_for_ap", 1, 0) is None
            assert (await client.ask("readprop", "colour"))["status"] == Status.GENERAL_ERROR
            assert (await client.ask("connect", "JTAG"))["status"] == Status.PROBE_ERROR

        serve(scenario)

    @pytest.mark.parametrize(
        "line",
        [
            b"no json",
            b"[]",
            b'{"request": "open"}',
            b'{"id": 1}',
            b'{"id": 1, "request": "dance"}',
            b'{"id": 1, "request": ["open"]}',
            b'{"id": 1, "request": "hello", "arguments": [2]}',
            b'{"id": 1, "request": "hello"}',
            b'{"id": 1, "request": "hello", "arguments": ["1"]}',
            b'{"id": 1, "request": "write_ap_multiple", "arguments": [0, ["x"]]}',
            b"x" * (1 << 21),
            b"\xff\xfe",
        ],
        ids=lambda line: line[:40].decode("latin1"),
    )
    def test_a_bad_request_is_answered_and_the_connection_stays(self, line):
        async def scenario(bench):
            client = await bench.client()
            client.writer.write(line + b"\n")
            assert (await client.answer())["status"] == Status.GENERAL_ERROR
            client.send("readprop", "unique_id")
            while (answer := await client.answer())["id"] != client.next_id:
                pass  # what remains of a line that was too long
            assert answer["result"] == "1050012345"

        serve(scenario)

    def test_dap_errors_are_told_apart(self):
        chip = Chip()

        async def scenario(bench):
            client = await bench.client()
            assert (await client.ask("read_ap", CSW))["status"] == Status.TRANSFER_FAULT
            chip.set_power(False)
            assert (await client.ask("read_dp", 0))["status"] == Status.TRANSFER_ERROR

        serve(scenario, chip=chip)

    def test_reset_pulses_nreset(self):
        chip = Chip()
        levels = []
        chip.on_run_change = levels.append

        async def scenario(bench):
            client = await bench.client()
            await client.get("reset")
            assert levels == [False, True]
            assert chip.resetreas == ResetCause.RESETPIN
            await client.get("assert_reset", True)
            assert await client.get("is_reset_asserted") is True
            assert not chip.cpu_runs
            await client.get("assert_reset", False)
            assert chip.cpu_runs

        serve(scenario, chip=chip)

    def test_others_are_served_while_nreset_is_held(self):
        async def scenario(bench):
            owner, other = await bench.client(), await bench.client(opened=False)
            owner.send("reset")
            await bench.until(lambda: bench.server.dap.chip.nreset_low)
            assert await other.get("readprop", "unique_id") == "1050012345"
            assert bench.server.dap.chip.nreset_low

        serve(scenario, hold_time=DEADLINE)


class TestOwnership:
    def test_the_probe_has_one_owner(self):
        async def scenario(bench):
            first, second = await bench.client(), await bench.client(opened=False)
            answer = await second.ask("open")
            assert answer["status"] == Status.PROBE_ERROR
            assert "in use" in answer["error"]
            assert (await second.ask("read_dp", 0))["status"] == Status.PROBE_ERROR
            await first.get("close")
            await second.get("open")
            server = bench.server
            assert (server.clients, server.owners_seen, server.max_owners, server.refused) == (2, 2, 1, 1)

        serve(scenario)

    def test_other_software_may_have_the_probe(self):
        async def scenario(bench):
            bench.server.dap.busy = True
            client = await bench.client(opened=False)
            assert (await client.ask("open"))["status"] == Status.PROBE_ERROR
            bench.server.dap.busy = False
            await client.get("open")

        serve(scenario)

    def test_the_lock_goes_from_one_client_to_the_next(self):
        async def scenario(bench):
            first, second = await bench.client(), await bench.client(opened=False)
            await first.get("lock")
            second.send("lock")
            await bench.until(lambda: bench.server.requests == 4)
            await first.get("read_dp", 0)
            await first.get("unlock")
            assert (await second.answer())["status"] == Status.OK
            await second.get("unlock")

        serve(scenario)

    def test_a_client_that_dies_holds_nothing(self):
        chip = Chip()

        async def scenario(bench):
            first, second = await bench.client(), await bench.client(opened=False)
            await first.get("lock")
            await first.get("assert_reset", True)
            first.die()
            await second.get("lock")
            await bench.until(lambda: not bench.server.owners)
            await second.get("open")
            assert not chip.nreset_low
            assert chip.resetreas == ResetCause.RESETPIN

        serve(scenario, chip=chip)

    def test_an_unplugged_probe_is_a_status_and_never_a_closed_connection(self):
        async def scenario(bench):
            client = await bench.client()
            bench.server.dap.plugged = False
            for request in (("read_dp", 0), ("reset",), ("flush",), ("connect", "SWD"), ("open",)):
                assert (await client.ask(*request))["status"] == Status.PROBE_DISCONNECTED, request
            bench.server.dap.plugged = True
            assert (await client.ask("read_dp", 0))["status"] == Status.PROBE_DISCONNECTED
            await client.get("close")
            await client.get("open")
            await client.get("read_dp", 0)

        serve(scenario)

    def test_a_replugged_probe_is_free_for_the_next(self):
        async def scenario(bench):
            await bench.client()
            bench.server.dap.plugged = False
            bench.server.dap.plugged = True
            await bench.client()

        serve(scenario)

    def test_a_closed_server_lets_go_of_everything(self):
        chip = Chip()

        async def scenario(bench):
            client = await bench.client()
            client.send("reset")
            await bench.until(lambda: chip.nreset_low)
            await bench.server.close()
            assert not chip.nreset_low

        serve(scenario, chip=chip, hold_time=DEADLINE)
