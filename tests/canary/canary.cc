// Commits the crime that its argument names, for canary_test.sh to see that a sanitizer notices.
//
// Each is done through a volatile or a pointer that the compiler cannot see through, so that the
// fault is still there when it runs.

#include <climits>
#include <cstdio>
#include <string_view>
#include <thread>

namespace {

volatile int sink = 0;

void UseAfterFree() {
  int* volatile number = new int(7);
  delete number;
  sink = *number;
}

void SignedOverflow() {
  volatile int number = INT_MAX;
  sink = number + 1;
}

void Race() {
  int number = 0;
  int* volatile shared = &number;
  std::thread other([shared] { *shared = 1; });
  *shared = 2;
  other.join();
  sink = number;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view crime = argc > 1 ? argv[1] : "";
  if (crime == "use-after-free") {
    UseAfterFree();
  } else if (crime == "signed-overflow") {
    SignedOverflow();
  } else if (crime == "race") {
    Race();
  } else {
    std::fputs("usage: canary use-after-free|signed-overflow|race\n", stderr);
    return 0;
  }
  return 0;
}
