// Where the variables lie that a process, or its child, writes at each fork. Every page of private memory that is written after a fork
// costs its writer a fault of 1.5 us, in the parent as in the child; so these lie side by side, in a section of their own: some 600 bytes.
#pragma once

// Before the declaration of a variable of static storage duration that is no template's and not inline.
#define MP_FORK_PAGE [[gnu::section("mp_fork_page")]]
