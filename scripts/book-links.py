#!/usr/bin/env python3
"""Preprocessor of the book (book.toml): links that leave docs/ lead to the repository on the web.

The pages are read on GitHub too, where relative links to code and recipes work as they are.
"""

import json
import posixpath
import re
import sys

WEB = "https://github.com/prospect-kto/prospect/blob/main/"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def web(page: str, target: str) -> str:
    """Returns the address of a link of `page`, a path below docs/."""
    if re.match(r"[a-z]+:|#", target):
        return target
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return target if path.startswith("docs/") else WEB + path


def rewrite(items: list) -> None:
    """Rewrites the links of chapters and their sub-chapters."""
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter and chapter["path"]:
            page = chapter["path"]
            chapter["content"] = LINK.sub(lambda link: f"]({web(page, link[1])})", chapter["content"])
            rewrite(chapter["sub_items"])


if sys.argv[1:2] == ["supports"]:
    sys.exit(0)
_, book = json.load(sys.stdin)
rewrite(book.get("items", book.get("sections", [])))
json.dump(book, sys.stdout)
