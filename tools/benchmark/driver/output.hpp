// Rows as a table on the terminal, as JSON, and as an HTML page that needs nothing else.
#pragma once

#include <string>
#include <vector>

#include "case.hpp"
#include "machine.hpp"

void print_machine(const Machine& machine);
void print_head();
void print_row(const Row& row);

std::string as_json(const std::vector<Row>& rows, const Machine& machine);
std::string as_page(const std::vector<Row>& rows, const Machine& machine);

// A figure of three digits or so; "-" for none.
std::string figure(std::optional<double> value);
