# Lines "side benchmark ops_per_second" → a table of means, in the order the benchmarks ran.
{ if (!($2 in seen)) { seen[$2] = 1; order[++count] = $2 }
  sum[$1, $2] += $3; runs[$1, $2]++ }
function number(value) { return value >= 100 ? sprintf("%.0f", value) : sprintf("%.2f", value) }
END {
  printf "%-20s %12s %12s %8s\n", "benchmark", "basalt", other, "ratio"
  for (i = 1; i <= count; i++) {
    name = order[i]
    if (!runs["basalt", name] || !runs["other", name]) continue
    a = sum["basalt", name] / runs["basalt", name]
    b = sum["other", name] / runs["other", name]
    printf "%-20s %12s %12s %8.2f\n", name, number(a), number(b), a / b
  }
}
