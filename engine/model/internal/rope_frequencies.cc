#include "engine/model/internal/rope_frequencies.h"

#include <cmath>
#include <numbers>

namespace strata::engine {
namespace {

float Llama3Scaled(float inverse_frequency, const Llama3RopeScaling& scaling) {
  const double context = static_cast<double>(scaling.original_max_position_embeddings);
  const float longest = static_cast<float>(context / scaling.low_freq_factor);
  const float shortest = static_cast<float>(context / scaling.high_freq_factor);
  const float factor = static_cast<float>(scaling.factor);
  const float wavelength = static_cast<float>(2 * std::numbers::pi) / inverse_frequency;
  if (wavelength > longest) return inverse_frequency / factor;
  if (wavelength < shortest) return inverse_frequency;
  const float smooth =
      (static_cast<float>(context) / wavelength - static_cast<float>(scaling.low_freq_factor)) /
      static_cast<float>(scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - smooth) * inverse_frequency / factor + smooth * inverse_frequency;
}

}  // namespace

std::vector<float> InverseFrequencies(const LlamaConfig& config) {
  std::vector<float> frequencies(config.head_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    frequencies[i] = 1.0f / std::pow(static_cast<float>(config.rope_theta), exponent);
    if (config.rope_scaling) frequencies[i] = Llama3Scaled(frequencies[i], *config.rope_scaling);
  }
  return frequencies;
}

}  // namespace strata::engine
