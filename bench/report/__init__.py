"""How figures are shown: JSON, tables, plots and a page. Everything is computed elsewhere (`bench.figures`)."""
