// Checks pages in Chromium: node check.mjs CHROMIUM [--accept] [NAME=]PAGE.html...
//
// No console message, no request besides the page, no horizontal scroll at 400 and 1280 pixels, every interactive element
// reachable by keyboard, no serious finding of axe-core, in light and in dark; and prints to PDF. Pages with a NAME are compared
// with accepted/NAME-light.png and accepted/NAME-dark.png, which --accept replaces.

import { fileURLToPath, pathToFileURL } from 'node:url';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import { compareWithAccepted } from './screenshots.mjs';

const [executablePath, ...rest] = process.argv.slice(2);
const accept = rest[0] === '--accept';
const accepted = fileURLToPath(new URL('accepted', import.meta.url));
const pages = rest.slice(accept ? 1 : 0).map((each) => {
  const [name, page] = each.includes('=') ? each.split('=') : [null, each];
  return { name, page };
});
const axe = createRequire(import.meta.url).resolve('axe-core');
const findings = [];

/// Returns the elements wider than the window.
const overflow = () => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const wide = [...document.body.querySelectorAll('*')].filter(
    (element) => element.getBoundingClientRect().right > width + 1 && getComputedStyle(element).position !== 'fixed',
  );
  return wide.slice(0, 3).map((element) => `<${element.tagName.toLowerCase()} class="${element.className}">`);
};

/// Returns the elements that a keyboard has to reach: visible links, buttons, fields and summaries.
const interactive = () =>
  [...document.querySelectorAll('a[href], button, input, select, summary')].filter(
    (element) => !element.disabled && element.checkVisibility() && element.tabIndex >= 0,
  ).length;

/// Returns the visible interactive elements that no Tab reaches.
const unreachable = () =>
  [...document.querySelectorAll('button, input, select, summary')]
    .filter((element) => !element.disabled && element.checkVisibility() && element.tabIndex < 0)
    .map((element) => element.outerHTML.slice(0, 80));

async function check(browser, page, colorScheme, width) {
  const where = `${page}, ${colorScheme}, ${width} px`;
  const report = (finding) => findings.push(`${where}: ${finding}`);
  // The policy of the page would refuse axe-core too.
  const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 }, bypassCSP: true });
  const tab = await context.newPage();
  const url = pathToFileURL(page).href;
  tab.on('console', (message) => report(`console: ${message.text()}`));
  tab.on('pageerror', (error) => report(`error: ${error.message}`));
  tab.on('request', (request) => {
    if (request.url().split('#')[0] !== url && !request.url().startsWith('data:')) report(`request: ${request.url()}`);
  });
  await tab.goto(url, { waitUntil: 'load' });
  for (const element of await tab.evaluate(overflow)) report(`scrolls horizontally: ${element}`);
  for (const element of await tab.evaluate(unreachable)) report(`not reachable by keyboard: ${element}`);
  if (width > 1000) {
    if ((await tab.evaluate(interactive)) > 0) {
      await tab.keyboard.press('Tab');
      if (await tab.evaluate(() => document.activeElement === document.body)) report('Tab reaches nothing');
    }
    await tab.addScriptTag({ path: axe });
    const rules = { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] };
    const { violations } = await tab.evaluate((rules) => window.axe.run(document, rules), rules);
    for (const { id, impact, help, nodes } of violations) {
      if (['serious', 'critical'].includes(impact)) {
        report(`${id} (${impact}): ${help}: ${nodes.length} × ${nodes[0].html.slice(0, 120)}`);
      }
    }
    const pdf = await tab.pdf({ format: 'A4' });
    if (pdf.length < 1000) report('an empty PDF');
  }
  await context.close();
}

/// With the policy of the page in force, nothing is reported on the console.
async function checkPolicy(browser, page) {
  const tab = await browser.newPage();
  tab.on('console', (message) => findings.push(`${page}, own policy: ${message.text()}`));
  await tab.goto(pathToFileURL(page).href, { waitUntil: 'load' });
  await tab.close();
}

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
for (const { name, page } of pages) {
  if (name) findings.push(...(await compareWithAccepted(browser, name, page, accepted, accept)));
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [400, 1280]) await check(browser, page, colorScheme, width);
  }
  await checkPolicy(browser, page);
}
await browser.close();
for (const finding of findings) console.log(finding);
console.log(`${pages.length} pages, ${findings.length} findings`);
process.exit(findings.length > 0 ? 1 : 0);
