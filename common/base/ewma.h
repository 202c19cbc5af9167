// What something takes lately: an average in which the newest counts most.
#pragma once

namespace mesh {

// Of times, which are never 0: an average of 0 has seen none yet.
inline void blend(double& average, double newest) {
  constexpr double kShare = 0.25;  // of the newest
  average += (average == 0 ? 1 : kShare) * (newest - average);
}

}  // namespace mesh
