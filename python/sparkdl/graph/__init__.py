"""TensorFlow graphs: those that stages run. Importing this loads no TensorFlow."""
