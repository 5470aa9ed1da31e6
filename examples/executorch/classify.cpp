// Classify an image with a .pte file of `transxnet export --format executorch --with-preprocessing`.
//
//     classify model.pte image.ppm
//
// The image is a binary PPM file (RGB, 8 bits) of the model's input size; README.md shows how to create one.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

using executorch::aten::ScalarType;
using executorch::extension::Module;

int fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 3) return fail("usage: classify MODEL.pte IMAGE.ppm");
  Module module(argv[1]);
  auto description = module.method_meta("forward");
  if (!description.ok()) return fail(std::string(argv[1]) + " is not an ExecuTorch program with a method forward.");
  auto input = description->input_tensor_meta(0);  // (1, height, width, 3) uint8
  if (!input.ok() || input->scalar_type() != ScalarType::Byte)
    return fail("The model takes float32. Export it again with --with-preprocessing.");
  const int height = input->sizes()[1], width = input->sizes()[2];

  std::ifstream file(argv[2], std::ios::binary);
  std::string magic;
  int columns = 0, rows = 0, levels = 0;
  file >> magic >> columns >> rows >> levels;
  file.get();  // one space or newline before the pixels
  if (magic != "P6" || columns != width || rows != height || levels != 255)
    return fail(std::string(argv[2]) + " is not a binary PPM image of " + std::to_string(width) + "x" +
                std::to_string(height) + " pixels and 255 levels.");
  std::vector<uint8_t> pixels(size_t(3) * width * height);
  if (!file.read(reinterpret_cast<char*>(pixels.data()), pixels.size())) return fail("The image ends too early.");

  auto result = module.forward(executorch::extension::from_blob(pixels.data(), {1, height, width, 3}, ScalarType::Byte));
  if (!result.ok()) return fail("The model cannot be run: error " + std::to_string(int(result.error())));
  const auto& logits = result->at(0).toTensor();
  const float* values = logits.const_data_ptr<float>();
  const size_t classes = logits.numel();

  auto names = module.execute("class_names");  // separated by newlines
  if (!names.ok()) return fail("The model has no class names.");
  std::stringstream lines{std::string(names->at(0).toString())};
  std::vector<std::string> labels(classes);
  for (auto& label : labels) std::getline(lines, label);

  const float largest = *std::max_element(values, values + classes);
  float sum = 0;
  for (size_t i = 0; i < classes; i++) sum += std::exp(values[i] - largest);
  std::vector<size_t> order(classes);
  std::iota(order.begin(), order.end(), size_t(0));
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  for (size_t i = 0; i < std::min<size_t>(5, classes); i++)
    std::printf("%.4f %s\n", std::exp(values[order[i]] - largest) / sum, labels[order[i]].c_str());
}
