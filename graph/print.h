// A graph as text for people.
#pragma once

#include <string>

#include "graph/graph.h"

namespace sardonyx {

// One line for each input, constant (type only), node and output; bodies are indented.
std::string print_graph(const Graph& graph);
std::string print_attribute(const Attribute& attribute);

}  // namespace sardonyx
