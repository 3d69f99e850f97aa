#!/usr/bin/env python3
"""Runs a command in a terminal and writes the recording as an animated SVG.

Usage: scripts/record.py OUT.svg [--seconds N] -- COMMAND [ARGUMENTS]

Needs pyte (`pip install pyte`), which emulates the terminal. The recording is sped up to N seconds. Viewers without
animation, and print, show the last screen.
"""

import argparse
import html
import os
import pty
import select
import struct
import fcntl
import termios
import time

import pyte

COLUMNS, ROWS = 100, 26
CELL, LINE = 8.4, 18
COLOURS = {
    "black": "#6e7681", "red": "#ff7b72", "green": "#7ee787", "brown": "#e3b341", "blue": "#79c0ff",
    "magenta": "#d2a8ff", "cyan": "#56d4dd", "white": "#e6edf3",
}


def record(command: list[str]) -> list[tuple[float, list]]:
    """Returns the screens of a command, each with its time in seconds."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(("$ " + " ".join(command) + "\r\n").encode())
    frames = [(0.0, rows_of(screen))]
    started = time.monotonic()
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color")
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    while True:
        select.select([terminal], [], [])
        try:
            output = os.read(terminal, 65536)
        except OSError:
            break
        if not output:
            break
        stream.feed(output)
        rows = rows_of(screen)
        if rows != frames[-1][1]:
            frames.append((time.monotonic() - started, rows))
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {os.waitstatus_to_exitcode(status)}")
    return frames


def rows_of(screen: pyte.Screen) -> list:
    """Returns the runs of equal style in each row: column, text, colour, bold."""
    rows = []
    for y in range(ROWS):
        runs = []
        for x in range(COLUMNS):
            cell = screen.buffer[y][x]
            style = (cell.fg, cell.bold)
            if runs and runs[-1][2:] == style:
                runs[-1] = (*runs[-1][:1], runs[-1][1] + cell.data, *style)
            else:
                runs.append((x, cell.data, *style))
        rows.append([run for run in runs if run[1].strip()])
    return rows


def thin(frames: list, most: int) -> list:
    """Returns at most so many frames, evenly spread over time, with the first and the last."""
    end = frames[-1][0] or 1.0
    chosen, last = [], -1
    for frame in frames[:-1]:
        slot = int(frame[0] / end * (most - 1))
        if slot != last:
            chosen.append(frame)
        else:
            chosen[-1] = frame
        last = slot
    return chosen + [frames[-1]]


def text_of(rows: list) -> str:
    """Returns the text elements of a screen."""
    lines = []
    for y, runs in enumerate(rows):
        for x, text, colour, bold in runs:
            fill = COLOURS.get(colour, f"#{colour}" if len(colour) == 6 else "#e6edf3")
            weight = ' font-weight="bold"' if bold else ""
            # Spaces that do not collapse.
            shown = html.escape(text.rstrip(), quote=False).replace(" ", "\N{NO-BREAK SPACE}")
            width = len(text.rstrip()) * CELL
            lines.append(
                f'<text x="{16 + x * CELL:.1f}" y="{50 + y * LINE}" fill="{fill}"{weight} '
                f'textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs">{shown}</text>'
            )
    return "".join(lines)


def svg(frames: list, seconds: float) -> str:
    """Returns the recording as SVG; the last screen stays for a third of the time."""
    used = max(y + 1 for _, rows in frames for y, runs in enumerate(rows) if runs)
    width, height = COLUMNS * CELL + 32, used * LINE + 48
    end = frames[-1][0] or 1.0
    times = [0.67 * time / end for time, _ in frames] + [1.0]
    groups, styles = [], []
    for index, (_, rows) in enumerate(frames):
        start, stop = 100 * times[index], 100 * times[index + 1]
        is_last = index == len(frames) - 1
        styles.append(
            f"@keyframes f{index}{{0%,{max(start - 0.001, 0):.3f}%{{opacity:0}}{start:.3f}%{{opacity:1}}"
            + ("100%{opacity:1}}" if is_last else f"{stop - 0.001:.3f}%{{opacity:1}}{stop:.3f}%,100%{{opacity:0}}}}")
        )
        shown = 1 if is_last else 0
        groups.append(
            f'<g opacity="{shown}" style="animation:f{index} {seconds}s step-end infinite">{text_of(rows)}</g>'
        )
    still = "@media print,(prefers-reduced-motion:reduce){g{animation:none!important}}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" '
        f'font-family="ui-monospace,Menlo,Consolas,monospace" font-size="14">'
        f"<style>{''.join(styles)}{still}</style>"
        f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#0d1117"/>'
        '<circle cx="20" cy="18" r="5" fill="#ff5f57"/><circle cx="38" cy="18" r="5" fill="#febc2e"/>'
        f'<circle cx="56" cy="18" r="5" fill="#28c840"/>{"".join(groups)}</svg>\n'
    )


def main() -> None:
    """Records a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    frames = thin(record(given.command), 24)
    with open(given.out, "w", encoding="utf-8") as file:
        file.write(svg(frames, given.seconds))


main()
