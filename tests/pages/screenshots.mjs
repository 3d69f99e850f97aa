// Compares screenshots with accepted ones, in a way that survives the fonts of other machines.
//
// A screenshot is the top of a page in the font of our figures, reduced to a quarter. Its cells with ink are compared by their
// mean colour, each with the cells above and below as well, because another number may wrap a line.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';

/// Part of the page in pixels, and the reduction of the images that are kept.
const PART = { x: 0, y: 0, width: 1280, height: 2000 };
const REDUCTION = 4;
/// Side of a cell in pixels of the reduced image, and rows that content may move.
const CELL = 8;
const MOVES = 1;
/// The bundled font, so that lines break in the same places everywhere. Characters that it lacks come from the machine.
const FONT = readFileSync(new URL('../../crates/report/assets/Roboto-Regular.ttf', import.meta.url)).toString('base64');
const PINNED = `@font-face { font-family: Pinned; src: url(data:font/ttf;base64,${FONT}) } * { font-family: Pinned, sans-serif !important }`;
/// Difference of a colour channel, of 255, above which a cell has ink, or differs.
const DIFFERENCE = 10;
/// Most cells with ink that may differ. Another digit in every number reaches 0.002, a page without its figures at least 0.023.
const TOLERATED = 0.02;
/// Folder of screenshots that differ from accepted ones.
const SEEN = fileURLToPath(new URL('seen', import.meta.url));

/// Returns the screenshot of a page as a reduced PNG, as a data URL. `change` is a style sheet to add.
export async function screenshot(browser, page, colorScheme, change = '') {
  const viewport = { width: PART.width, height: PART.height };
  const context = await browser.newContext({ colorScheme, viewport, bypassCSP: true });
  const tab = await context.newPage();
  await tab.goto(pathToFileURL(page).href, { waitUntil: 'load' });
  await tab.addStyleTag({ content: PINNED + change });
  await tab.evaluate(() => document.fonts.load('16px Pinned'));
  const png = await tab.screenshot({ clip: PART, animations: 'disabled' });
  const url = `data:image/png;base64,${png.toString('base64')}`;
  const reduced = await tab.evaluate(reduce, { url, reduction: REDUCTION });
  await context.close();
  return reduced;
}

/// In the browser: reduces an image by averaging squares of pixels.
async function reduce({ url, reduction }) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const [width, height] = [image.width / reduction, image.height / reduction];
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const from = context.getImageData(0, 0, image.width, image.height).data;
  const to = context.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 4; channel++) {
        let sum = 0;
        for (let square = 0; square < reduction * reduction; square++) {
          const [down, right] = [Math.floor(square / reduction), square % reduction];
          sum += from[4 * ((y * reduction + down) * image.width + x * reduction + right) + channel];
        }
        // Few shades make a small file.
        to.data[4 * (y * width + x) + channel] = Math.min(255, 8 * Math.round(sum / (8 * reduction * reduction)));
      }
    }
  }
  [canvas.width, canvas.height] = [width, height];
  context.putImageData(to, 0, 0);
  return canvas.toDataURL('image/png');
}

/// In the browser: returns the share of cells with ink of either image that the other has nowhere near.
async function difference({ urls, cell, moves, limit }) {
  const grids = [];
  for (const url of urls) {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.width, image.height];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const [columns, rows] = [Math.floor(image.width / cell), Math.floor(image.height / cell)];
    const means = [];
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const { data } = context.getImageData(column * cell, row * cell, cell, cell);
        const sums = [0, 0, 0];
        for (let at = 0; at < data.length; at++) if (at % 4 < 3) sums[at % 4] += data[at];
        means.push(sums.map((sum) => sum / (cell * cell)));
      }
    }
    grids.push({ columns, rows, means });
  }
  const [one, other] = grids;
  if (one.columns !== other.columns || one.rows !== other.rows) return 1;
  const distance = (a, b) => Math.max(...a.map((value, channel) => Math.abs(value - b[channel])));
  let [inked, differ] = [0, 0];
  for (const [from, to] of [[one, other], [other, one]]) {
    // The corner at the bottom right is paper.
    const paper = from.means[from.means.length - 1];
    for (let at = 0; at < from.means.length; at++) {
      const [row, column] = [Math.floor(at / from.columns), at % from.columns];
      if (distance(from.means[at], paper) <= limit) continue;
      inked += 1;
      let least = Infinity;
      for (let move = Math.max(0, row - moves); move <= Math.min(from.rows - 1, row + moves); move++) {
        least = Math.min(least, distance(to.means[move * from.columns + column], from.means[at]));
      }
      if (least > limit) differ += 1;
    }
  }
  return inked ? differ / inked : 1;
}

/// Returns the share of cells in which two images differ.
export async function compare(browser, one, other) {
  const tab = await browser.newPage();
  const options = { urls: [one, other], cell: CELL, moves: MOVES, limit: DIFFERENCE };
  const share = await tab.evaluate(difference, options);
  await tab.close();
  return share;
}

/// Compares a page with its accepted screenshots in light and dark; with `accept`, replaces them. Returns findings.
export async function compareWithAccepted(browser, name, page, folder, accept) {
  const findings = [];
  for (const scheme of ['light', 'dark']) {
    const file = `${folder}/${name}-${scheme}.png`;
    const taken = await screenshot(browser, page, scheme);
    const write = (path, url) => writeFileSync(path, Buffer.from(url.split(',')[1], 'base64'));
    if (accept) {
      mkdirSync(folder, { recursive: true });
      write(file, taken);
      continue;
    }
    if (!existsSync(file)) {
      findings.push(`${name}, ${scheme}: no accepted screenshot ${file}; accept one with --accept`);
      continue;
    }
    const accepted = `data:image/png;base64,${readFileSync(file).toString('base64')}`;
    const share = await compare(browser, accepted, taken);
    console.log(`${name}, ${scheme}: ${(100 * share).toFixed(1)} % of the inked cells differ from the accepted screenshot`);
    if (share > TOLERATED) {
      mkdirSync(SEEN, { recursive: true });
      const seen = `${SEEN}/${name}-${scheme}.png`;
      write(seen, taken);
      findings.push(
        `${name}, ${scheme}: ${(100 * share).toFixed(1)} % of the inked cells differ from ${file}, more than ${100 * TOLERATED} %; see ${seen}`,
      );
    }
    findings.push(...(await checkSensitivity(browser, name, page, scheme, taken)));
  }
  return findings;
}

/// Changes that a comparison must find.
const DEFECTS = {
  'no figures': 'svg { visibility: hidden }',
  'the other colours': ':root { --paper: #777; --ink: #eee }',
  'no text': 'main * { color: transparent !important }',
};

/// Checks that the comparison finds defects of this page.
async function checkSensitivity(browser, name, page, scheme, taken) {
  const findings = [];
  for (const [defect, style] of Object.entries(DEFECTS)) {
    const share = await compare(browser, taken, await screenshot(browser, page, scheme, style));
    console.log(`${name}, ${scheme}, ${defect}: ${(100 * share).toFixed(1)} % of the inked cells differ`);
    if (share <= TOLERATED) {
      findings.push(`${name}, ${scheme}: the comparison does not find a page with ${defect}`);
    }
  }
  return findings;
}
