"""The comparison of seedbank with other clients; run benches/compare."""
