"""The compiler: torch.export graph to float graph, integer graph to machine program."""
