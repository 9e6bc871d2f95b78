"""The style of the page of nights: light and dark by the reader's system, from 320 pixels up, nothing loaded."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --text: #1c1e21; --quiet: #5b6068; --edge: #d5d8dc; --card: #ffffff;
  --pass: #d3edd9; --pass-text: #14532d; --product: #c62828; --update: #7b3fb5; --bench: #f2c14e;
  --process: #37474f; --configuration: #1565a8;
  --nrfdfu-line: #1f6fc4; --nrfdfu-stall: #b97900; --nrfdfu-mark: #c62828;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --text: #e6e8eb; --quiet: #a3a9b2; --edge: #363b43; --card: #1c1f25;
    --pass: #1f4a2c; --pass-text: #c9f0d3; --product: #d9463d; --update: #9b62d6; --bench: #dba524;
    --process: #78909c; --configuration: #3d8fd8;
    --nrfdfu-line: #62a8f2; --nrfdfu-stall: #e0a63a; --nrfdfu-mark: #ff7b6e;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem clamp(0.75rem, 3vw, 2rem) 3rem; max-width: 86rem; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; margin: 0.5rem 0 0.25rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 0 0 0.4rem; }
p { margin: 0.4rem 0; max-width: 70rem; }
ul { margin: 0.4rem 0; padding-left: 1.2rem; }
code { font-size: 0.9em; }
.quiet { color: var(--quiet); }
.scroll { overflow-x: auto; max-width: 100%; border: 1px solid var(--edge); border-radius: 6px;
  background: var(--card); }
.scroll:focus-visible { outline: 2px solid var(--nrfdfu-line); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; }
.list th, .list td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--edge); vertical-align: top; }
.list .n { text-align: right; white-space: nowrap; }
.list td { white-space: nowrap; }
.list .w { white-space: normal; min-width: 14rem; overflow-wrap: break-word; }
.list .w:last-child { min-width: 22rem; }
.list pre { margin: 0.3rem 0 0.1rem; padding: 0.4rem 0.6rem; max-height: 22rem; overflow: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 12.5px/1.45 ui-monospace, monospace; border-radius: 4px; background: var(--page);
  color: var(--quiet); }
.list details { margin: 0.1rem 0 0; }
.list summary { color: var(--quiet); }
.list tbody tr:last-child > * { border-bottom: 0; }
.grid { border-spacing: 2px; border-collapse: separate; padding: 0.4rem; }
.grid th { font-weight: 500; font-size: 0.8rem; white-space: nowrap; }
.grid thead th { text-align: center; color: var(--quiet); padding: 0 1px; }
.grid tbody th { padding-right: 0.6rem; }
.grid tbody th:first-child { position: sticky; left: 0; background: var(--card); }
.grid .month { text-align: left; border-left: 1px solid var(--edge); padding-left: 4px; }
.grid td, .key i { min-width: 1.6rem; height: 1.6rem; text-align: center; font: 600 0.8rem/1.6rem system-ui, sans-serif;
  border-radius: 4px; }
.key { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; margin: 0.6rem 0; padding: 0; list-style: none; }
.key i { display: inline-block; font-style: normal; margin-right: 0.4rem; }
.p { background: var(--pass); color: var(--pass-text); }
.F { background: var(--product); color: #fff; }
.U { background: var(--update); color: #fff; }
.X { background: var(--process); color: #fff; }
.C { background: var(--configuration); color: #fff; }
.B { background: var(--bench); color: #231a00; }
.s { background: transparent; color: var(--quiet); box-shadow: inset 0 0 0 1px var(--edge); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); gap: 0.9rem; }
.card { border: 1px solid var(--edge); border-radius: 6px; background: var(--card); padding: 0.8rem; min-width: 0; }
.card.warn { border-color: var(--nrfdfu-mark); }
.card figure { margin: 0.5rem 0 0; }
.card figcaption { font-size: 0.85rem; color: var(--quiet); }
.warn-text { color: var(--nrfdfu-mark); font-weight: 600; }
@media (max-width: 64rem) {
  .stacks thead { display: none; }
  .stacks, .stacks tbody, .stacks tr { display: block; }
  .stacks tr { border-bottom: 1px solid var(--edge); padding: 0.4rem 0.7rem; }
  .stacks tr:last-child { border-bottom: 0; }
  .stacks td { display: inline; border: 0; padding: 0 0.5rem 0 0; }
  .stacks td:nth-child(-n + 2) { font-weight: 600; }
  .stacks td.w { display: block; min-width: 0; overflow-wrap: anywhere; }
  .stacks td.w:not(:last-child) { color: var(--quiet); }
}
details { margin: 0.6rem 0; }
summary { cursor: pointer; }
"""
