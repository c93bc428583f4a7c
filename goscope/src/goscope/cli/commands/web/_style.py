"""How the pages look."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --quiet: #777; --accent: #0a66c2; }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
h1 { font-size: 1.25rem; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .6rem; }
dl div { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .75rem; }
dt { color: var(--quiet); font-size: .85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.table { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .75rem; text-align: left; white-space: nowrap; }
th { color: var(--quiet); font-size: .8rem; font-weight: 600; }
tr + tr td { border-top: 1px solid var(--line); }
td:first-child { max-width: 22rem; overflow: hidden; text-overflow: ellipsis; }
progress { width: 8rem; vertical-align: middle; }
nav { display: flex; gap: 1rem; margin-bottom: .75rem; }
form { display: inline; }
button, input { font: inherit; padding: .15rem .6rem; }
input { max-width: 60%; }
.done { border-left: 4px solid var(--accent); padding: .5rem .75rem; }
.quiet { color: var(--quiet); }
td a + a { margin-left: .75rem; }
@media (max-width: 40rem) {
  body { padding: .75rem; }
  dl { grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
  .table { border: 0; overflow: visible; }
  thead { display: none; }
  tr { display: block; border: 1px solid var(--line); border-radius: .5rem; margin-bottom: .6rem;
       padding: .4rem .75rem; }
  td, tr + tr td { display: flex; gap: 1rem; border: 0; padding: .15rem 0; white-space: normal;
       max-width: none; overflow-wrap: anywhere; }
  td::before { content: attr(data-head); color: var(--quiet); flex: 0 0 7rem; }
}
"""
