"""What pages draw: charts, tables, tokens as chips, patterns, routes; light or dark."""
