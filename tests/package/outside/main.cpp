// A program of somebody else: runs the model given as argument, y = 2 x + 1, on {1, 2, 3}.
#include <sardonyx/session.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    sardonyx::Session session(argv[1]);
    const auto outputs = session.run({{"x", sardonyx::Tensor::of<float>({1, 2, 3})}});
    for (double value : outputs.at(0).tensor().to_doubles()) std::cout << value << ' ';
    std::cout << "with sardonyx " << sardonyx::version() << '\n';
  } catch (const sardonyx::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
