// The curves of a report: every seed thin, the median over seeds bold, their range shaded. Drawn with uPlot.
"use strict";
const Curves = (() => {
  const GRID = 160; // places at which a crowded panel is drawn
  const SHOWN = 8; // methods whose values are told
  const CROWD = 400000; // numbers above which a panel is crowded
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const text = (value) => {
    if (value === null || !Number.isFinite(value)) return "–";
    const digits = Number.isInteger(value) && Math.abs(value) < 1e5 ? {} : { maximumSignificantDigits: 3 };
    return value.toLocaleString("en", digits).replace("-", "−");
  };

  // A measurement: three digits, trailing zeros kept.
  const measured = (value) => (Math.abs(value) >= 1000 || value === 0 ? text(value) : value.toPrecision(3).replace("-", "−"));

  // Linear interpolation inside what was observed, null outside.
  const at = (xs, ys, x) => {
    const last = xs.length - 1;
    if (last < 0 || x < xs[0] || x > xs[last]) return null;
    let low = 0, high = last;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] <= x) low = middle; else high = middle;
    }
    if (xs[high] === xs[low] || x === xs[high]) return ys[x === xs[high] ? high : low];
    return ys[low] + ((x - xs[low]) / (xs[high] - xs[low])) * (ys[high] - ys[low]);
  };

  const median = (values) => {
    const sorted = Float64Array.from(values).sort(), n = sorted.length;
    return n % 2 ? sorted[(n - 1) / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
  };

  const lineOf = (trial, axis, panel) => {
    const xs = [], ys = [];
    trial.x[axis].forEach((x, i) => {
      const y = trial.y[panel][i];
      if (x !== null && y !== null && y !== undefined) { xs.push(x); ys.push(y); }
    });
    return { xs, ys, trial };
  };

  // Median and range where all seeds were observed, as `reports/statistics/curve.py` has them.
  // The last is `high` itself: rounding would put it outside the curves.
  const even = (low, high) => Array.from({ length: GRID }, (_, i) => i === GRID - 1 ? high : low + ((high - low) * i) / (GRID - 1));
  const bandOf = (lines) => {
    const long = lines.filter((line) => line.xs.length > 1 && !line.trial.stopped);
    if (!long.length) return null;
    const low = Math.max(...long.map((l) => l.xs[0])), high = Math.min(...long.map((l) => l.xs.at(-1)));
    if (!(high > low)) return null;
    let grid = [...new Set(long.flatMap((l) => l.xs).concat([low, high]))].filter((x) => x >= low && x <= high);
    grid.sort((a, b) => a - b);
    if (grid.length > GRID) grid = even(low, high);
    const heights = grid.map((x) => long.map((l) => at(l.xs, l.ys, x)));
    return { xs: grid, ys: heights.map(median), low: heights.map((h) => Math.min(...h)),
      high: heights.map((h) => Math.max(...h)), seeds: long.length };
  };

  // One table for uPlot: every x of every line, null where a line has no point.
  const aligned = (columns) => {
    let xs = [...new Set(columns.flatMap((c) => c.xs))].sort((a, b) => a - b);
    if (xs.length * columns.length <= CROWD) {
      const place = new Map(xs.map((x, i) => [x, i]));
      return [xs, ...columns.map((c) => {
        const ys = new Array(xs.length).fill(null);
        c.xs.forEach((x, i) => { ys[place.get(x)] = c.ys[i]; });
        return ys;
      })];
    }
    const low = xs[0], high = xs.at(-1);
    xs = even(low, high);
    return [xs, ...columns.map((c) => xs.map((x) => at(c.xs, c.ys, x)))];
  };

  class Panel {
    constructor(root, data, index, state) {
      Object.assign(this, { root, data, index, state });
      this.plot = null;
      root.innerHTML = "<h3></h3><div class=plot></div><p class=readout aria-live=off></p>";
      root.firstChild.textContent = data.panels[index].title;
      this.box = root.children[1];
      this.readout = root.children[2];
    }

    draw() {
      const { data, state, index } = this;
      if (this.plot) this.plot.destroy();
      const axis = data.axes[state.axis];
      const colour = (v) => (dark.matches ? v.dark : v.colour);
      this.groups = data.variants.map((variant, number) => ({
        variant, number,
        lines: variant.still || state.hidden.has(number) ? []
          : data.trials.filter((t) => t.variant === number).map((t) => lineOf(t, state.axis, index)).filter((l) => l.xs.length),
      }));
      this.groups.forEach((g) => { g.band = bandOf(g.lines); });
      const levels = data.variants.map((variant, number) => {
        if (!variant.still || state.hidden.has(number)) return null;
        const ends = data.trials.filter((t) => t.variant === number).map((t) => t.y[index].findLast((y) => y !== null));
        const seen = ends.filter((y) => y !== undefined);
        return seen.length ? { value: median(seen), variant } : null;
      }).filter(Boolean);
      this.levels = levels;

      const columns = [], series = [{ label: axis.label }], bands = [];
      for (const group of this.groups) {
        const stroke = colour(group.variant);
        for (const line of group.lines) {
          columns.push(line);
          series.push({ stroke: stroke + "8c", width: 1, spanGaps: true,
            points: { show: line.xs.length === 1, size: 6, fill: stroke } });
        }
      }
      for (const group of this.groups.filter((g) => g.band)) {
        const stroke = colour(group.variant), { xs, ys, low, high } = group.band;
        const plain = { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } };
        columns.push({ xs, ys: high }, { xs, ys: low }, { xs, ys });
        bands.push({ series: [series.length, series.length + 1], fill: stroke + (this.groups.length > 8 ? "14" : "26") });
        series.push(plain, plain, { stroke, width: 2.4, dash: group.variant.dash, spanGaps: true, points: { show: false } });
      }
      if (!columns.length) columns.push({ xs: [0, 1], ys: [null, null] }), series.push({});
      const table = aligned(columns);
      const targets = data.panels[index].target ? data.targets : [];
      const positive = table[0].find((x) => x > 0) ?? 1;
      const ink = style("--muted"), rule = style("--rule"), font = `12px ${style("--font")}`;
      const line = { stroke: ink, font, ticks: { stroke: rule, width: 1, size: 4 }, values: (_, found) => found.map(text) };
      this.plot = new uPlot({
        width: this.box.clientWidth || 320, height: 230, legend: { show: false }, bands, series,
        cursor: { points: { show: false }, y: false, drag: { x: true, y: false } },
        scales: {
          x: { time: false, ...(state.log ? { distr: 4, asinh: positive } : {}) },
          y: { range: (_, low, high) => this.range(low, high, targets) },
        },
        axes: [
          { ...line, label: axis.label, labelSize: 18, labelFont: font, labelGap: 2, size: 32, grid: { show: false },
            ...(state.log ? { splits: () => this.decades(positive) } : { space: 60 }) },
          { ...line, size: 46, space: 36, grid: { stroke: rule, width: 1 } },
        ],
        hooks: {
          draw: [(u) => this.marks(u, targets, colour)],
          setCursor: [(u) => this.tell(u, axis)],
        },
      }, table, this.box);
      this.tell(this.plot, axis);
    }

    range(low, high, targets) {
      const values = [low, high, ...this.levels.map((l) => l.value)].filter((v) => v !== null && Number.isFinite(v));
      if (!values.length) return [0, 1];
      let [bottom, top] = [Math.min(...values), Math.max(...values)];
      for (const { value } of targets) { // a far target is not to flatten the curves
        if (value > top && value < top + 0.5 * (top - bottom)) top = value;
        if (value < bottom && value > bottom - 0.5 * (top - bottom)) bottom = value;
      }
      const room = 0.06 * (top - bottom || Math.abs(top) || 1);
      return [bottom - room, top + room];
    }

    decades(positive) {
      const top = this.plot ? this.plot.scales.x.max : positive * 1e6, found = [0];
      let step = 10 ** Math.floor(Math.log10(positive));
      for (; step <= top; step *= 10) if (step >= positive) found.push(step);
      while (found.length > 6) for (let i = found.length - 2; i > 0; i -= 2) found.splice(i, 1);
      return found;
    }

    marks(u, targets, colour) {
      const { ctx, bbox } = u, ratio = devicePixelRatio;
      const level = (value, stroke, dash, width) => {
        const y = Math.round(u.valToPos(value, "y", true));
        if (y < bbox.top - 1 || y > bbox.top + bbox.height + 1) return false;
        ctx.save();
        ctx.strokeStyle = stroke; ctx.lineWidth = width * ratio; ctx.setLineDash(dash.map((d) => d * ratio));
        ctx.beginPath(); ctx.moveTo(bbox.left, y); ctx.lineTo(bbox.left + bbox.width, y); ctx.stroke();
        ctx.restore();
        return true;
      };
      for (const { value, variant } of this.levels) level(value, colour(variant), variant.dash, 1.6);
      for (const { value, of } of targets) {
        const owner = of === null ? null : this.data.variants[of];
        if (owner && this.state.hidden.has(of)) continue;
        const below = u.valToPos(value, "y", true) > bbox.top + bbox.height;
        const drawn = level(value, owner ? colour(owner) : style("--ink"), [1.5, 3], 1.2);
        if (!owner) {
          ctx.save();
          ctx.font = `${12 * ratio}px ${style("--font")}`; ctx.fillStyle = style("--muted"); ctx.textBaseline = "top"; ctx.textAlign = "left";
          ctx.fillText(`${drawn ? "···" : below ? "↓" : "↑"} target ${measured(value)}`, bbox.left + 4 * ratio, bbox.top + 2 * ratio);
          ctx.restore();
        }
      }
      for (const group of this.groups) for (const { xs, ys, trial } of group.lines) {
        if (!trial.stopped) continue;
        const x = u.valToPos(xs.at(-1), "x", true), y = u.valToPos(ys.at(-1), "y", true), r = 4 * ratio;
        ctx.save();
        ctx.strokeStyle = colour(group.variant); ctx.lineWidth = 1.8 * ratio;
        ctx.beginPath();
        ctx.moveTo(x - r, y - r); ctx.lineTo(x + r, y + r); ctx.moveTo(x - r, y + r); ctx.lineTo(x + r, y - r);
        ctx.stroke(); ctx.restore();
      }
    }

    // What stands at the pointer, method by method; without one, what the curves end at.
    tell(u, axis) {
      const { left } = u.cursor, over = left !== undefined && left !== null && left >= 0;
      const x = over ? u.posToVal(left, "x") : null;
      const parts = [];
      for (const { variant, band, lines } of this.groups) {
        const only = band ?? lines[0];
        if (!only) continue;
        // On an axis of time seeds end at different places: what they end at is their own last values.
        const ends = lines.filter((l) => !l.trial.stopped && l.ys.length).map((l) => l.ys.at(-1));
        const value = over ? at(only.xs, only.ys, x) : ends.length ? median(ends) : only.ys.at(-1);
        if (value === null) continue;
        const [low, high] = over && band ? [at(band.xs, band.low, x), at(band.xs, band.high, x)] : [Math.min(...ends), Math.max(...ends)];
        const range = band && band.seeds > 1 ? ` (${measured(low)} to ${measured(high)})` : "";
        parts.push([variant, measured(value) + range, value]);
      }
      for (const { variant, value } of this.levels) parts.push([variant, measured(value), value]);
      parts.sort((a, b) => b[2] - a[2]);
      const where = document.createElement("span");
      where.textContent = over ? `at ${text(x)} ${axis.label}` : "at the end";
      this.readout.replaceChildren(where, ...parts.slice(0, SHOWN).map(([variant, words]) => {
        const chip = document.createElement("span"), name = document.createElement("b");
        name.textContent = variant.name;
        name.style.color = dark.matches ? variant.dark : variant.colour;
        chip.append(name, ` ${words}`);
        return chip;
      }), ...(parts.length > SHOWN ? [`and ${parts.length - SHOWN} lower`] : []));
    }
  }

  const start = (section) => {
    const data = JSON.parse(section.querySelector("script[type='application/json']").textContent);
    const state = { axis: 0, log: data.axes[0].log, hidden: new Set() };
    const panels = [...section.querySelectorAll("[data-panel]")].map((root) => new Panel(root, data, +root.dataset.panel, state));
    const visible = (panel) => panel.root.closest("details:not([open])") === null;
    const axes = [...section.querySelectorAll("[data-axis]")];
    const log = section.querySelector("[data-log]");
    const chips = [...section.querySelectorAll("[data-variant]")];
    const all = () => {
      axes.forEach((button, i) => button.setAttribute("aria-pressed", i === state.axis));
      log.setAttribute("aria-pressed", state.log);
      chips.forEach((chip, i) => chip.setAttribute("aria-pressed", !state.hidden.has(i)));
      panels.filter(visible).forEach((panel) => panel.draw());
    };
    axes.forEach((button, i) => button.addEventListener("click", () => { state.axis = i; state.log = data.axes[i].log; all(); }));
    log.addEventListener("click", () => { state.log = !state.log; all(); });
    chips.forEach((chip, i) => chip.addEventListener("click", (event) => {
      // With a modifier, this one alone; again, all.
      if (event.shiftKey || event.altKey) {
        const others = chips.map((_, j) => j).filter((j) => j !== i), alone = others.every((j) => state.hidden.has(j));
        state.hidden = new Set(alone ? [] : others);
      } else if (!state.hidden.delete(i)) state.hidden.add(i);
      all();
    }));
    section.querySelectorAll("details").forEach((more) => more.addEventListener("toggle", all));
    dark.addEventListener("change", all);
    let width = section.clientWidth;
    new ResizeObserver(() => { if (Math.abs(section.clientWidth - width) > 2) { width = section.clientWidth; all(); } }).observe(section);
    all();
    return { panels, state };
  };

  return { start, bandOf, at };
})();
