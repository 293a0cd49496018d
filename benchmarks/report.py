def table(r): return "x"
