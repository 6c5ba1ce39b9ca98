"""The results as a drawing that is readable on light and on dark ground."""
from xml.sax.saxutils import escape

from .results import NOT_CLIENTS

WIDTH, LEFT, GAP, BAR, STEP = 880, 108, 26, 13, 19
HALF = (WIDTH - LEFT - GAP - 16) // 2  # of each of the two columns
TEXT, OWN, OTHER = "#7a828e", "#2f81f7", "#8b949e"
FONT = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"


def draw(results, scenarios):
    """An SVG: for each scenario how fast every client is, and what it costs the processor."""
    parts, y = [], 26
    right = LEFT + HALF + GAP
    parts.append(_text(LEFT, y, "MB/s (longer is better)", weight=600))
    parts.append(_text(right, y, "CPU seconds per GiB (shorter is better)", weight=600))
    y += 10
    for scenario in scenarios:
        if scenario.key == "syncs" or not results.clients(scenario.key):
            continue
        y = _group(parts, results, scenario, y + 22)
    about = results.about
    gib = about["size"] / (1 << 30)
    foot = (f"{gib:g} GiB · medians of {_runs(results)} · {about['cpu']}, {about['cores']} cores · Linux {about['kernel']} · "
            f"{about['filesystem']} · {about['date']}")
    y += 22
    parts.append(_text(8, y, foot, size=11))
    height = y + 12
    body = "\n".join(parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="{FONT}" role="img" aria-label="Speed and processor time of BitTorrent clients">\n{body}\n</svg>\n')


def _group(parts, results, scenario, y):
    key = scenario.key
    speed = {client: results.speed(key, client) / 1e6 for client in results.clients(key)}
    cost = {client: results.cpu_per_gib(key, client) for client in speed}
    parts.append(f'<line x1="8" x2="{WIDTH - 8}" y1="{y - 16}" y2="{y - 16}" stroke="{TEXT}" stroke-opacity="0.25"/>')
    parts.append(_text(8, y, scenario.title, size=13, weight=600))
    y += 8
    clients = sorted(speed, key=lambda client: (client in NOT_CLIENTS, -speed[client]))
    for client in clients:
        middle = y + BAR - 2.5
        parts.append(_text(LEFT - 8, middle, client, anchor="end", weight=600 if client == "seedbank" else 400))
        _bar(parts, LEFT, y, speed[client] / max(speed.values()), client, f"{speed[client]:,.0f}")
        _bar(parts, LEFT + HALF + GAP, y, cost[client] / max(cost.values()), client, f"{cost[client]:.2f}")
        y += STEP
    return y + 4


def _bar(parts, x, y, share, client, label):
    colour = OWN if client == "seedbank" else OTHER
    opacity = 0.4 if client in NOT_CLIENTS else 1
    width = max(2, round(share * (HALF - 52), 1))
    parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{BAR}" rx="2" fill="{colour}" '
                 f'fill-opacity="{opacity}"/>')
    parts.append(_text(x + width + 6, y + BAR - 2.5, label))


def _text(x, y, content, size=12, weight=400, anchor="start"):
    return (f'<text x="{x}" y="{y}" fill="{TEXT}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}">{escape(content)}</text>')


def _runs(results):
    counts = [len(results.of(run["scenario"], run["client"])) for run in results.runs if run["scenario"] != "syncs"]
    if not counts:
        return "0 runs"
    low, high = min(counts), max(counts)
    return f"{low} runs" if low == high else f"{low} to {high} runs"
