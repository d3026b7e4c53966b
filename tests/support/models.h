// Models that tests write themselves.
#pragma once

#include "graph/builder.h"
#include "sardonyx/session.h"

namespace sardonyx::test {

LoadedModel model_of(GraphBuilder builder);

}  // namespace sardonyx::test
