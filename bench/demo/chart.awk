# Lines "side benchmark ops_per_second" → an SVG: a bar per benchmark, Basalt's speed as a multiple of
# the other side's, on a logarithmic scale with a line at 1.
{ if (!($2 in seen)) { seen[$2] = 1; order[++count] = $2 }
  sum[$1, $2] += $3; runs[$1, $2]++ }
function position(ratio) { return left + width * (log(ratio) - log(low)) / (log(high) - log(low)) }
END {
  rows = 0; low = 0.5; high = 2
  for (i = 1; i <= count; i++) {
    name = order[i]
    if (!runs["basalt", name] || !runs["other", name]) continue
    r = (sum["basalt", name] / runs["basalt", name]) / (sum["other", name] / runs["other", name])
    ratio[++rows] = r; title[rows] = name
    while (r < low) low /= 2
    while (r > high) high *= 2
  }
  left = 170; width = 480; top = 50; step = 26; bottom = top + rows * step
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"%d\" font-family=\"sans-serif\" font-size=\"13\">\n", bottom + 40
  print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
  printf "<text x=\"20\" y=\"24\" font-size=\"16\">db_bench: operations per second on Basalt, relative to %s</text>\n", other
  for (mark = low; mark <= high * 1.001; mark *= 2) {
    x = position(mark)
    printf "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"%s\"/>\n", x, top - 8, x, bottom, mark == 1 ? "#222" : "#ddd"
    printf "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" fill=\"#555\">%g×</text>\n", x, bottom + 20, mark
  }
  for (i = 1; i <= rows; i++) {
    y = top + (i - 1) * step
    from = position(ratio[i] < 1 ? ratio[i] : 1); to = position(ratio[i] < 1 ? 1 : ratio[i])
    printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 10, y + 14, title[i]
    printf "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"18\" fill=\"%s\"/>\n", from, y, to - from, ratio[i] < 1 ? "#c0603a" : "#3a7ca5"
    printf "<text x=\"%.1f\" y=\"%d\">%.2f×</text>\n", to + 6, y + 14, ratio[i]
  }
  print "</svg>"
}
