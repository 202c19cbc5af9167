// mesh-bench-server: a ROUTER agent that answers each request with its own frames. Prints "listening ENDPOINT", runs
// until killed. With NAP_MS it sleeps so long after each reply before it looks for the next request, as a base class of
// our users' agents does.
#include <chrono>
#include <exception>
#include <iostream>
#include <string>
#include <thread>
#include <zmq.hpp>

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::cerr << "usage: mesh-bench-server ENDPOINT [NAP_MS]   (tcp://127.0.0.1:* takes a free port)\n";
    return 64;
  }
  try {
    zmq::context_t context;
    zmq::socket_t socket(context, zmq::socket_type::router);
    socket.set(zmq::sockopt::linger, 0);
    socket.bind(argv[1]);
    std::cout << "listening " << socket.get(zmq::sockopt::last_endpoint) << std::endl;
    const std::chrono::milliseconds nap(argc == 3 ? std::stoi(argv[2]) : 0);
    zmq::message_t frame;
    for (;;) {
      (void)socket.recv(frame, zmq::recv_flags::none);
      const bool more = frame.more();
      socket.send(frame, more ? zmq::send_flags::sndmore : zmq::send_flags::none);
      if (!more && nap.count() > 0) std::this_thread::sleep_for(nap);
    }
  } catch (const std::exception& error) {
    std::cerr << "mesh-bench-server: " << error.what() << '\n';
    return 1;
  }
}
