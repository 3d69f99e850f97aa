"""Lists what is linked into the binary: licence texts, or a bill of materials. Needs cargo, not a build.

    python3 scripts/third-party.py licenses [--features cuda] [--target TRIPLE] [--out FILE]
    python3 scripts/third-party.py sbom     [--features cuda] [--target TRIPLE] [--out FILE]

`licenses`: every crate with its licence expression, then each distinct text once, with the crates it covers.
`sbom`: CycloneDX 1.5 JSON, with the checksums of Cargo.lock. Both are sorted, so equal inputs make equal files.
Crates that only tests, build scripts or proc macros use are left out: the binary does not contain them.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LICENSE_FILE = re.compile(r"(?i)^(licen[cs]e|copying|notice|unlicense|copyright)")


def metadata(features: str | None, target: str) -> dict:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    command += ["--features", features] if features else []
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def host() -> str:
    output = subprocess.run(["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.search(r"^host: (.*)$", output, re.MULTILINE).group(1)


def linked(data: dict) -> list[dict]:
    """Returns the packages that are reachable from the binary by normal dependencies, sorted."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    pending, seen = [data["resolve"]["root"]], set()
    while pending:
        package = pending.pop()
        if package in seen:
            continue
        seen.add(package)
        for dependency in nodes[package]["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            is_macro = any("proc-macro" in target["kind"] for target in packages[dependency["pkg"]]["targets"])
            if normal and not is_macro:
                pending.append(dependency["pkg"])
    return sorted((packages[package] for package in seen), key=lambda package: (package["name"], package["version"]))


def license_texts(package: dict) -> list[str]:
    folder = Path(package["manifest_path"]).parent
    # Packages that link a C library contain its sources, with a licence of their own, in a folder.
    candidates = folder.rglob("*") if package["links"] else folder.iterdir()
    names = [path for path in candidates if path.is_file() and LICENSE_FILE.match(path.name) and path.suffix != ".rs"]
    if package["license_file"]:
        names.append(folder / package["license_file"])
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in sorted(set(names)) if path.exists())
    return ["\n".join(line.rstrip() for line in text.strip().splitlines()) for text in texts if text.strip()]


def licenses(packages: list[dict]) -> str:
    others = [package for package in packages if package["source"]]
    lines = [
        "Third-party software in this binary",
        "===================================",
        "",
        "The binary contains Rust's standard library (MIT OR Apache-2.0) and these crates. The texts of their licences follow, each",
        "with the crates it covers.",
        "",
    ]
    covered: dict[str, tuple[str, list[str]]] = {}
    without = []
    for package in others:
        title = f"{package['name']} {package['version']}"
        expression = package["license"] or "see the text below"
        lines.append(f"{title} ({expression}) {package['repository'] or ''}".rstrip())
        texts = license_texts(package)
        if not texts:
            without.append((title, expression, ", ".join(package["authors"]) or "its authors"))
        for text in texts:
            # Texts that differ only in line breaks are one text.
            titles = covered.setdefault(" ".join(text.split()), (text, []))[1]
            if title not in titles:
                titles.append(title)
    if without:
        lines += ["", "These packages name their licence but contain no text of it; the standard text applies:", ""]
        lines += [f"{title} ({expression}), copyright {authors}" for title, expression, authors in without]
    for text, titles in covered.values():
        lines += ["", "-" * 100, ", ".join(titles), "-" * 100, "", text]
    print(f"third-party: {len(others)} crates, {len(covered)} texts, {len(without)} crates without a text", file=sys.stderr)
    return "\n".join(lines) + "\n"


def sbom(packages: list[dict], data: dict) -> str:
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in lock}

    def reference(package: dict) -> str:
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(package: dict) -> dict:
        entry = {
            "type": "library", "bom-ref": reference(package), "name": package["name"], "version": package["version"],
            "purl": reference(package), "scope": "required",
        }
        if package["license"]:
            entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return entry

    root = next(package for package in packages if package["id"] == data["resolve"]["root"])
    by_id = {package["id"]: package for package in packages}
    dependencies = []
    for node in data["resolve"]["nodes"]:
        if node["id"] in by_id:
            needed = sorted({reference(by_id[dependency["pkg"]]) for dependency in node["deps"] if dependency["pkg"] in by_id})
            dependencies.append({"ref": reference(by_id[node["id"]]), "dependsOn": needed})
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root) | {"type": "application"}},
        "components": [component(package) for package in packages if package is not root],
        "dependencies": sorted(dependencies, key=lambda entry: entry["ref"]),
    }
    print(f"third-party: {len(packages) - 1} components", file=sys.stderr)
    return json.dumps(document, indent=2) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["licenses", "sbom"])
    parser.add_argument("--features")
    parser.add_argument("--target", default=None)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    data = metadata(arguments.features, arguments.target or host())
    packages = linked(data)
    text = licenses(packages) if arguments.what == "licenses" else sbom(packages, data)
    if arguments.out is None:
        sys.stdout.write(text)
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    # Written aside, then renamed, so that an interrupted run leaves no partial file.
    with tempfile.NamedTemporaryFile("w", dir=arguments.out.parent, delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, arguments.out)


if __name__ == "__main__":
    main()
