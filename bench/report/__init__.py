"""How figures are shown: JSON, tables, plots, a page. Everything is computed elsewhere (`bench.figures`)."""
