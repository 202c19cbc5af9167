// mesh-bench-zmq-proxy: one hop as libzmq users build it, ROUTER to DEALER by zmq_proxy. Prints "listening ENDPOINT",
// runs until killed.
#include <exception>
#include <iostream>
#include <string>
#include <zmq.hpp>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: mesh-bench-zmq-proxy LISTEN TARGET   (tcp://127.0.0.1:* takes a free port)\n";
    return 64;
  }
  try {
    zmq::context_t context;
    zmq::socket_t front(context, zmq::socket_type::router);
    zmq::socket_t back(context, zmq::socket_type::dealer);
    front.set(zmq::sockopt::linger, 0);
    back.set(zmq::sockopt::linger, 0);
    back.connect(argv[2]);
    front.bind(argv[1]);
    std::cout << "listening " << front.get(zmq::sockopt::last_endpoint) << std::endl;
    zmq::proxy(front, back);
  } catch (const std::exception& error) {
    std::cerr << "mesh-bench-zmq-proxy: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
