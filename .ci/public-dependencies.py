#!/usr/bin/env python3
"""The foreign crates that the public API names, against the list in docs/adr/0005-public-dependencies.md.

usage: public-dependencies.py RUSTDOC.json ADR.md
"""
import json
import re
import sys

doc = json.load(open(sys.argv[1]))
index, paths, crates = doc["index"], doc["paths"], doc["external_crates"]
seen, named = set(), {}


def names(node, where):
    """Every path that a piece of a signature names."""
    if isinstance(node, list):
        for part in node:
            names(part, where)
    elif isinstance(node, dict):
        if isinstance(node.get("id"), int) and "path" in node:
            crate = paths.get(str(node["id"]), {}).get("crate_id", 0)
            if crate:
                named.setdefault(crates[str(crate)]["name"], where)
        for key, part in node.items():
            if key not in ("docs", "attrs", "links"):
                names(part, where)


def visit(identity, where):
    item = index.get(str(identity))
    if item is None or identity in seen:
        return
    seen.add(identity)
    (kind, inner), = item["inner"].items()
    here = where + [item["name"] or ""]
    label = "::".join(part for part in here if part)
    if kind == "module":
        for child in inner["items"]:
            if index.get(str(child), {}).get("visibility") == "public":
                visit(child, here)
    elif kind == "use":
        if inner["id"] is not None:
            visit(inner["id"], where)
    elif kind in ("struct", "enum", "union"):
        names({"generics": inner["generics"]}, label)
        for child in inner["impls"]:
            implemented = index[str(child)]["inner"]["impl"]
            if not implemented["is_synthetic"] and implemented["blanket_impl"] is None:
                names({key: implemented[key] for key in ("generics", "trait", "for")}, label)
                for member in implemented["items"]:
                    visit(member, here)
        shape = inner.get("kind")
        fields = inner.get("variants", [])
        if isinstance(shape, dict):
            for style in shape.values():
                fields = fields + (style["fields"] if isinstance(style, dict) else [f for f in style if f])
        for field in fields:
            if index.get(str(field), {}).get("visibility") in ("public", "default"):
                visit(field, here)
    elif kind == "variant":
        shape = inner["kind"]
        if isinstance(shape, dict):
            for style in shape.values():
                for field in style["fields"] if isinstance(style, dict) else style:
                    visit(field, here)
    elif kind == "trait":
        names({key: inner[key] for key in ("generics", "bounds")}, label)
        for child in inner["items"]:
            visit(child, here)
    else:
        names(inner, label)


visit(doc["root"], [])
standard = {"std", "core", "alloc"}
# The core of a family is its family; a macro's own helper is nobody's business.
family = {"axum-core": "axum", "serde-core": "serde", "pin-project-lite": "std"}
named = {family.get(name.replace("_", "-"), name.replace("_", "-")): where for name, where in named.items()}
found = set(named) - standard
listed = set(name.replace("_", "-") for name in re.findall(r"`([a-z][a-z0-9_-]*)`", open(sys.argv[2]).read().split("stay inside")[0].rsplit("\n\n", 1)[0]))
for name in sorted(found - listed):
    print(f"{name} is public ({named[name]}) and not listed in {sys.argv[2]}")
for name in sorted(listed - found):
    print(f"{name} is listed in {sys.argv[2]} and not public")
sys.exit(found != listed)
