"""What is measured: each module makes the cases of one kind of traffic; `catalog` lists them all."""
