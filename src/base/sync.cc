#include "base/sync.h"

#include <pthread.h>
#include <sched.h>

namespace basalt {

Thread::Thread(std::string name, std::function<void()> body)
    : impl_([name = name.substr(0, 15), body = std::move(body)] {
        pthread_setname_np(pthread_self(), name.c_str());
        body();
      }) {}

void sleep_for(Duration duration) { std::this_thread::sleep_for(duration); }
void yield_thread() { std::this_thread::yield(); }

unsigned current_core() {
  const int core = sched_getcpu();
  return core < 0 ? 0 : static_cast<unsigned>(core);
}

}  // namespace basalt
