"""The devicetree that a build leaves: nodes, values, references, addresses; and what is no devicetree."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image import devicetree
from pytest_nrfdfu.image.devicetree import Reference

BUILDS = Path(__file__).parents[1] / "data" / "builds"
THINGY53 = BUILDS / "thingy53-sysbuild" / "mcuboot" / "zephyr" / "zephyr.dts"
DK = BUILDS / "nrf5340dk-boot-mode" / "mcuboot" / "zephyr" / "zephyr.dts"


def tree(body, before=""):
    return devicetree.parse(f"/dts-v1/;\n{before}\n/ {{\n{body}\n}};\n")


@pytest.mark.parametrize(
    ("value", "pieces"),
    [
        ("", ()),
        ("= < 0x1 0xff 16 >", ((1, 0xFF, 16),)),
        ("= < >", ((),)),
        ("= < &uart0 0x17 >", ((Reference("uart0"), 0x17),)),
        ("= < &{/soc/uart@8000} 0x1 >", ((Reference("/soc/uart@8000"), 1),)),
        ("= < 0x1 >, < 0x2 0x3 >", ((1,), (2, 3))),
        ('= "a"', ("a",)),
        ('= "a", "b,c;{}"', ("a", "b,c;{}")),
        (r'= "say \"hi\" \\ \x41\n"', ('say "hi" \\ A\n',)),
        ("= [ C2 28 17 ]", (b"\xc2\x28\x17",)),
        ("= [ ]", (b"",)),
        ("= &uart0", (Reference("uart0"),)),
        ("= &{/soc/uart@8000}", (Reference("/soc/uart@8000"),)),
        ("= /bits/ 16 < 0x1 0x2 >", ((1, 2),)),
        ('= "a" /* in board.dts:1 */', ("a",)),
        ("= first: < here: 0x1 > last:", ((1,),)),
    ],
)
def test_a_property_holds_its_pieces(value, pieces):
    assert tree(f"\tsome,prop-1#x {value};").root.properties["some,prop-1#x"] == pieces


def test_nodes_have_names_labels_paths_and_parents():
    node = tree("soc { a: b: uart@8000 { x; }; };").find("b")
    assert (node.name, node.path, node.labels, node.label) == ("uart@8000", "/soc/uart@8000", ("a", "b"), "a")
    assert [parent.name for parent in node.up()] == ["uart@8000", "soc", "/"]
    assert tree("soc { };").find("/soc").label == "/soc"


def test_comments_and_directives_are_skipped():
    found = tree("x; // to the end\n/* node\n'/' */ y;", before="/memreserve/ 0x0 0x100;\n/plugin/;")
    assert set(found.root.properties) == {"x", "y"}


def test_chosen_and_aliases_point_by_reference_or_path():
    found = tree('chosen { by-label = &n; by-path = "/n@1"; gone = &m; text = "n"; }; n: n@1 { }; aliases { a = &n; };')
    assert found.chosen("by-label") is found.chosen("by-path") is found.alias("a") is found.find("n")
    assert found.chosen("gone") is found.chosen("text") is found.chosen("absent") is None
    assert tree("x;").chosen("by-label") is None


def test_typed_access_gives_nothing_for_another_type():
    node = tree('n: n { text = "a"; cells = < 0x1 &n >; flag; octets = [ 0102 ], [ 03 ]; };').find("n")
    assert node.text("text") == "a"
    assert node.text("cells") is node.text("flag") is node.text("absent") is None
    assert node.cells("cells") == (1, Reference("n"))
    assert node.numbers("cells") == ()
    assert node.number("text") is node.number("cells") is None
    assert node.octets("octets") == b"\1\2\3"
    assert node.okay


@pytest.mark.parametrize(("status", "okay"), [("okay", True), ("ok", True), ("disabled", False), ("reserved", False)])
def test_a_node_is_enabled_unless_its_status_says_otherwise(status, okay):
    assert tree(f'n {{ status = "{status}"; }};').find("/n").okay is okay


def test_an_address_goes_through_the_ranges_of_its_buses():
    found = devicetree.read(DK)
    assert found.find("gpregret1").reg == (0x51C, 1)
    assert found.find("gpregret1").address == 0x5000_551C
    assert found.find("uart0").address == 0x5000_8000
    assert found.find("slot0_partition").address == 0x10000  # no ranges: an address within the flash


def test_addresses_of_two_cells_and_what_lies_in_no_range():
    body = """
        #address-cells = < 0x2 >; #size-cells = < 0x1 >;
        bus { #address-cells = < 0x1 >; #size-cells = < 0x1 >; ranges = < 0x100 0x1 0x0 0x80 >;
            in: a@110 { reg = < 0x110 0x4 >; }; out: b@180 { reg = < 0x180 0x4 >; }; short: c { reg = < 0x1 >; };
        };
        far: d { reg = < 0x1 0x2 0x3 >; };
    """
    found = tree(body)
    assert found.find("in").address == 0x1_0000_0010
    assert found.find("out").address == 0x180
    assert found.find("short").reg is found.find("short").address is None
    assert found.find("far").reg == (0x1_0000_0002, 3)


def test_compatible_nodes_come_in_the_order_of_the_file_and_only_enabled_ones():
    found = tree(
        'a { compatible = "x"; }; b { c { compatible = "y", "x"; }; }; d { compatible = "x"; status = "no"; };'
    )
    assert [node.path for node in found.compatible_with("x")] == ["/a", "/b/c"]


def test_a_real_tree():
    found = devicetree.read(THINGY53)
    assert found.root.text("model") == "Nordic Thingy53 NRF5340 Application"
    assert found.alias("mcuboot-button0").cells("gpios") == (Reference("gpio1"), 0xD, 0x11)
    assert found.chosen("zephyr,uart-mcumgr").compatible == ("zephyr,cdc-acm-uart",)
    assert found.find("slot0_partition").reg == (0x10000, 0x40000)
    assert found.find("mx25r64").octets("jedec-id") == b"\xc2\x28\x17"
    assert found.find("spi4") is found.find("edge_connector_spi")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the name of a node or property, not the end of the file"),
        ("/dts-v1/;", "line 1: expected the name of a node or property, not the end of the file"),
        ("/dts-v1/", "line 1: expected ';' behind a directive, not the end of the file"),
        ("soc { };", "expected the root node, '/ {', not '{'"),
        ("/ {\n\tx = ;\n};", "line 2: expected a value, not ';'"),
        ("/ {\n\tx = < 0x1 ;\n};", "line 2: expected a number, a reference or '>', not ';'"),
        ("/ {\n\tx = < (1 + 2) >;\n};", "line 2: expected a devicetree, not '('"),
        ("/ {\n\tx = [ 123 ];\n};", "line 2: expected bytes of two hexadecimal digits, not '[ 123 ]'"),
        ('/ {\n\tx = "open;\n};', "line 2: expected a devicetree, not '\"'"),
        ("/ {\n/* open\n};", "line 2: expected a devicetree, not '*'"),
        ("/ {\n\tx = < 0x1 > < 0x2 >;\n};", "line 2: expected ',' or ';' behind a value, not '<'"),
        ("/ {\n\tn {\n\t}\n};", "line 4: expected ';' behind a node, not '}'"),
        ("/ {\n\tn {\n", "line 3: expected the name of a node or property, not the end of the file"),
        ("/ { }; / { };", "expected nothing behind the root node, not '/'"),
        ("/ { " + "n { " * 200, "expected at most 100 nodes within one another"),
    ],
)
def test_what_is_no_devicetree_is_refused(text, message):
    with pytest.raises(ImageError) as caught:
        devicetree.parse(text, "zephyr.dts")
    assert message in str(caught.value)
    assert str(caught.value).startswith("zephyr.dts, line ")


HOSTILE = [
    "/ { x = < " + "0x1 " * 200_000 + ">; };",
    "/ { x = " + "[ " * 200_000,
    "/ { " + "n: " * 200_000 + "n { }; };",
    "/*" * 200_000,
    '/ { x = "' + "\\" * 400_001,
    "/ { " + "a" * 400_000,
    "/ { n { " + "}; n { " * 50_000 + "}; }; };",
    "/ { x = < " + "9" * 20 + " >; #address-cells = < 0xffffffff >; n: n { reg = < 0x1 0x2 >; ranges; }; };",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_large_nonsense_ends(text):
    try:
        found = devicetree.parse(text)
    except ImageError:
        return
    assert all(node.address is None or node.address >= 0 for node in found.root.children.values())


WORDS = '/dts-v1/; / { } ; = < > , : & &a a a@1 0x1 " "t" [01] /* */ /bits/ reg ranges #address-cells \\ chosen'
PIECES = st.sampled_from(WORDS.split())


@given(st.lists(PIECES, max_size=60).map(" ".join) | st.text())
@settings(deadline=None)
def test_no_text_raises_anything_else(text):
    for candidate in (text, f"/ {{ {text} }};"):
        try:
            found = devicetree.parse(candidate)
        except ImageError:
            continue
        assert all(node.address is None or node.address >= 0 for node in found.root.children.values())


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_no_change_to_a_real_tree_raises_anything_else(data):
    text = DK.read_text()
    at = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 40))
    changed = text[:at] + data.draw(st.text(max_size=8)) + text[at + length :]
    try:
        found = devicetree.parse(changed)
    except ImageError:
        return
    for label in ("gpregret1", "slot0_partition", "uart0"):
        node = found.find(label)
        assert node is None or node.address is None or node.address >= 0
