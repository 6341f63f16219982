// Measures a page as it is drawn: where each text lies, what is cut off, what charts say on their axes.
(() => {
  const width = document.documentElement.clientWidth, hair = 1;
  const scrolled = (element) => {
    for (let one = element; one && one !== document.body; one = one.parentElement) {
      const how = getComputedStyle(one).overflowX;
      if ((how === 'auto' || how === 'scroll') && one.scrollWidth > one.clientWidth) return true;
    }
    return false;
  };
  const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement, words = node.textContent.trim();
    if (!words || parent.closest('script, style, datalist, defs, metadata') || !parent.checkVisibility()) continue;
    const drawn = parent.closest('svg text'), range = document.createRange();
    range.selectNodeContents(node);
    const lines = drawn ? [drawn.getBoundingClientRect()] : [...range.getClientRects()];
    for (const box of lines) {
      if (box.width < hair || box.height < hair) continue;
      texts.push({words: words.slice(0, 80), box, drawn, parent});
    }
  }
  const named = (one) => `${one.words} (${Math.round(one.box.left)}, ${Math.round(one.box.top + scrollY)})`;
  const overlapping = [];
  texts.forEach((one, place) => {
    for (const other of texts.slice(place + 1)) {
      if (one.drawn && one.drawn === other.drawn) continue;
      const wide = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      const high = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
      // Boxes of letters have air above and below.
      if (wide > hair && high > 0.3 * Math.min(one.box.height, other.box.height)) {
        overlapping.push(`${named(one)} on ${named(other)}`);
      }
    }
  });
  const cut = texts.filter(({box, drawn, parent}) => {
    const frame = drawn ? drawn.ownerSVGElement.getBoundingClientRect() : null;
    const outside = frame && (box.left < frame.left - hair || box.right > frame.right + hair ||
      box.top < frame.top - hair || box.bottom > frame.bottom + hair);
    return outside || (!scrolled(parent) && (box.left < -hair || box.right > width + hair));
  }).map(named);
  const sizes = texts.map(({drawn, parent}) =>
    parseFloat(getComputedStyle(parent).fontSize) * (drawn ? drawn.getScreenCTM().a ** 2 +
      drawn.getScreenCTM().b ** 2 : 1) ** (drawn ? 0.5 : 1));
  const axes = [...document.querySelectorAll('svg g[id^="matplotlib.axis_"]')].map((axis) => ({
    chart: [...document.querySelectorAll('svg')].indexOf(axis.closest('svg')),
    ticks: [...axis.querySelectorAll(':scope > g:not([id^="text_"]) text')].map((one) => one.textContent.trim()),
    labels: [...axis.querySelectorAll(':scope > g[id^="text_"] text')].map((one) => one.textContent.trim()),
  }));
  return {
    overlapping,
    cut,
    scrolled: [...document.querySelectorAll('*')].filter((one) => one !== document.documentElement && scrolled(one)
      && !scrolled(one.parentElement)).map((one) => one.textContent.trim().slice(0, 80)),
    sideways: document.documentElement.scrollWidth - width,
    smallest: Math.min(...sizes),
    texts: texts.length,
    axes: axes.filter((one) => one.ticks.some(Boolean)),
    headings: [...document.querySelectorAll('h2')].filter((one) => one.checkVisibility()).map((one) => one.textContent),
    charts: document.querySelectorAll('svg').length,
  };
})()
