// Elements of every type as plain numbers: what ranks under test fill tensors with, and compare.
//
// Pure functions, thread-safe. Numbers are doubles; what a type can't hold is cut off as C++ does,
// and to 16 bits rounded to the nearest, ties to even. Any address will do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/types.h"

namespace tutti {

// A range of elements in anybody's memory.
struct Elements {
  std::byte* data = nullptr;
  DataType dtype = DataType::kNone;
  size_t count = 0;
};

// Element i is value + step * (i % period).
struct Pattern {
  double value = 0;
  double step = 0;
  uint64_t period = 1;
};

void Fill(const Elements& elements, const Pattern& pattern);

// The first element that is not what Fill would write, or `count`.
size_t FirstDifference(const Elements& elements, const Pattern& pattern);

std::vector<double> Values(const Elements& elements);

// Sets the first elements, at most as many as there are.
void SetValues(const Elements& elements, const std::vector<double>& values);

}  // namespace tutti
