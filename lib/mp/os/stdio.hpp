// Output that waits in the buffers of FILEs.
#pragma once

namespace mp::os {

// fflush(nullptr), but for nothing where there is nothing to write: the call alone costs a fork child 6 us, for code and locks of the C
// library that it has not mapped yet. Waits for a thread that has locked a FILE.
void flush_files() noexcept;

}  // namespace mp::os
