from celestialflow_core._observe.text import cut as cut
