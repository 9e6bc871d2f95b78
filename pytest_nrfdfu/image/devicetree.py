"""Reads a zephyr.dts: the devicetree of a build, flattened, with its labels.

Zephyr writes it after all overlays were applied (scripts/dts/python-devicetree, dtlib.py, ``DT.__str__``). Only what
occurs in that output is read: no preprocessor, no expressions, no deleted nodes. The syntax is that of the Devicetree
Specification v0.4, chapter 6, and comments as newer Zephyr adds them.

The build's edt.pickle says the same and more, but to read a pickle is to run what it says, and a build directory may
come from anywhere; so it is never opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.dts_nodes import Node, Piece, Reference, Value
from pytest_nrfdfu.image.textfile import read_text

__all__ = ["Devicetree", "Node", "Reference", "Value", "parse", "read"]

_MAX_DEPTH = 100
"""Nodes within nodes. Real trees have about ten levels; paths would grow with the square of it."""
_SHOWN = 30

_TOKEN = re.compile(
    r"""
      (?P<space>  \s+ | /\*.*?\*/ | //[^\n]* )
    | (?P<string> "(?:[^"\\]|\\.)*" )
    | (?P<bytes>  \[ [0-9a-fA-F\s]* \] )
    | (?P<reference> & (?: [A-Za-z_]\w* | \{ [^}\s]* \} ) )
    | (?P<directive> /(?:dts-v1|plugin|memreserve|bits)/ )
    | (?P<label>  [A-Za-z_]\w* (?= : ) )
    | (?P<name>   / | [\w.+\#?-] [\w,.+\#?@-]* )
    | (?P<mark>   [{}<>;=,:] )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")


class Devicetree:
    """A whole tree."""

    def __init__(self, root: Node) -> None:
        """`root`: the node called ``/``."""
        self.root = root
        self._paths: dict[str, Node] = {}
        self._labels: dict[str, Node] = {}
        pending = [root]
        while pending:
            node = pending.pop()
            self._paths[node.path] = node
            self._labels.update(dict.fromkeys(node.labels, node))
            pending.extend(node.children.values())

    def find(self, target: str | Reference) -> Node | None:
        """The node at a path (it begins with a slash) or with a label."""
        name = target.target if isinstance(target, Reference) else target
        return (self._paths if name.startswith("/") else self._labels).get(name)

    def chosen(self, name: str) -> Node | None:
        """The node that ``/chosen`` names for `name`, such as ``zephyr,console``."""
        return self._pointed("/chosen", name)

    def alias(self, name: str) -> Node | None:
        """The node that ``/aliases`` names for `name`, such as ``mcuboot-button0``."""
        return self._pointed("/aliases", name)

    def _pointed(self, path: str, name: str) -> Node | None:
        pointer = self._paths.get(path)
        for piece in pointer.properties.get(name, ()) if pointer else ():
            if isinstance(piece, Reference) or (isinstance(piece, str) and piece.startswith("/")):
                return self.find(piece)
        return None

    def compatible_with(self, name: str) -> Iterator[Node]:
        """The enabled nodes that are compatible with `name`, in the order of the file."""
        pending = [self.root]
        while pending:
            node = pending.pop()
            if name in node.compatible and node.okay:
                yield node
            pending.extend(reversed(list(node.children.values())))


def read(path: Path) -> Devicetree:
    """The tree in the zephyr.dts at `path`; ImageError if it cannot be read, or is no such file."""
    return parse(read_text(path), str(path))


def parse(text: str, source: str = "zephyr.dts") -> Devicetree:
    """The tree in the text of a zephyr.dts; ImageError that names `source` and the line otherwise."""
    return _Parser(text, source).tree()


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_END = "end"


@dataclass(slots=True)
class _Open:
    """A node whose closing brace has not come yet, and the dictionaries that it will keep."""

    node: Node
    properties: dict[str, Value]
    children: dict[str, Node]


class _Parser:
    """Reads tokens one after the other. No recursion, so that no file can exhaust the stack."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._tokens = self._tokenize()
        self._token = next(self._tokens)

    def _tokenize(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None or match.end() == at:
                raise self._error(_Token("?", self._text[at], at), "a devicetree")
            if match.lastgroup not in {None, "space"}:
                yield _Token(str(match.lastgroup), match[0], at)
            at = match.end()
        while True:
            yield _Token(_END, "", at)

    def _error(self, token: _Token, expected: str) -> ImageError:
        line = self._text.count("\n", 0, token.at) + 1
        seen = "the end of the file" if token.kind == _END else repr(token.text[:_SHOWN])
        return ImageError(
            f"{self._source}, line {line}: expected {expected}, not {seen}. "
            "It is not the zephyr.dts of a build, or it is damaged: build again"
        )

    def _take(self) -> _Token:
        token = self._token
        self._token = next(self._tokens)
        return token

    def _accept(self, text: str) -> bool:
        """Take the next token if it is this mark."""
        if self._token.kind == "mark" and self._token.text == text:
            self._take()
            return True
        return False

    def _expect(self, text: str, expected: str) -> None:
        if not self._accept(text):
            raise self._error(self._token, expected)

    def tree(self) -> Devicetree:
        """The whole file."""
        self._skip_directives()
        name, labels = self._name()
        if name != "/":
            raise self._error(self._token, "the root node, '/ {'")
        self._expect("{", "the root node, '/ {'")
        root = _open(name, labels, None)
        self._body(root)
        if self._token.kind != _END:
            raise self._error(self._token, "nothing behind the root node")
        return Devicetree(root.node)

    def _skip_directives(self) -> None:
        while self._token.kind == "directive":
            while not self._accept(";"):
                if self._take().kind == _END:
                    raise self._error(self._token, "';' behind a directive")

    def _name(self) -> tuple[str, tuple[str, ...]]:
        """The name of a node or property, with the labels in front of it."""
        labels = self._labels()
        token = self._take()
        if token.kind != "name":
            raise self._error(token, "the name of a node or property")
        return token.text, labels

    def _labels(self) -> tuple[str, ...]:
        labels = []
        while self._token.kind == "label":
            labels.append(self._take().text)
            self._expect(":", "':' behind a label")
        return tuple(labels)

    def _body(self, root: _Open) -> None:
        """What is between the braces of the root, and behind its closing one."""
        stack = [root]
        while stack:
            if self._accept("}"):
                self._expect(";", "';' behind a node")
                stack.pop()
                continue
            name, labels = self._name()
            inside = stack[-1]
            if self._accept("{"):
                if len(stack) == _MAX_DEPTH:
                    raise self._error(self._token, f"at most {_MAX_DEPTH} nodes within one another")
                child = _open(name, labels, inside.node)
                inside.children[name] = child.node
                stack.append(child)
            elif self._accept(";"):
                inside.properties[name] = ()
            else:
                self._expect("=", "'{', '=' or ';' behind a name")
                inside.properties[name] = self._value()

    def _value(self) -> Value:
        pieces: list[Piece] = []
        while True:
            self._labels()
            pieces.append(self._piece())
            self._labels()
            if self._accept(";"):
                return tuple(pieces)
            self._expect(",", "',' or ';' behind a value")

    def _piece(self) -> Piece:
        token = self._take()
        if token.kind == "directive" and token.text == "/bits/":
            self._take()  # the width; the cells are numbers all the same
            token = self._take()
        if token.kind == "string":
            return _ESCAPE.sub(_unescape, token.text[1:-1])
        if token.kind == "reference":
            return _reference(token.text)
        if token.kind == "bytes":
            try:
                return bytes.fromhex(token.text[1:-1])
            except ValueError:
                raise self._error(token, "bytes of two hexadecimal digits") from None
        if token.kind == "mark" and token.text == "<":
            return self._cells()
        raise self._error(token, "a value")

    def _cells(self) -> tuple[int | Reference, ...]:
        cells: list[int | Reference] = []
        while not self._accept(">"):
            self._labels()
            token = self._take()
            if token.kind == "reference":
                cells.append(_reference(token.text))
            elif token.kind == "name" and _NUMBER.fullmatch(token.text):
                cells.append(int(token.text, 16 if "x" in token.text.lower() else 10))
            else:
                raise self._error(token, "a number, a reference or '>'")
        return tuple(cells)


def _open(name: str, labels: tuple[str, ...], parent: Node | None) -> _Open:
    properties: dict[str, Value] = {}
    children: dict[str, Node] = {}
    path = "/" if parent is None else f"{parent.path.rstrip('/')}/{name}"
    return _Open(Node(name, path, labels, parent, properties, children), properties, children)


def _reference(text: str) -> Reference:
    return Reference(text[2:-1] if text.startswith("&{") else text[1:])


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _CONTROL.get(code, code)
