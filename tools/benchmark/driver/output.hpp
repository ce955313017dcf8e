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
std::string range(const Measurement& m);  // "least..most"

// What some of these measurements have beside their values, in the order to read it in; what it is called; its text.
std::vector<std::string> keys_of(const std::vector<const Measurement*>& all);
std::string title_of(const std::string& key);
std::string detail_text(const Measurement& m, const std::string& key);
