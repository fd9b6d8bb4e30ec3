// The jar: the classes of jvm/ and the native library of rust/jni. Spark is there already wherever the jar is used, so the
// POM asks for nothing. The version is the one of Cargo.toml.

val sparkVersion = "4.1.0"

ThisBuild / organization := "sparkdl"
ThisBuild / scalaVersion := "2.13.17"
ThisBuild / version := {
  val line = """version = "(.*)"""".r
  IO.readLines((ThisBuild / baseDirectory).value / "Cargo.toml").collectFirst { case line(v) => v }
    .getOrElse(sys.error("Cargo.toml has no line version = \"…\""))
}

lazy val nativeLibrary =
  taskKey[Seq[File]]("Builds rust/jni and puts the library and its digest under native/<os>-<arch>/")

lazy val root = (project in file("."))
  .settings(
    name := "spark-deep-learning",
    description := "Deep Learning Pipelines for Apache Spark",
    licenses := Seq("Apache-2.0" -> url("https://www.apache.org/licenses/LICENSE-2.0")),
    target := baseDirectory.value / "jvm" / "target",
    publishTo := Some(MavenCache("dist", baseDirectory.value / "dist" / "maven")),
    autoScalaLibrary := false,
    libraryDependencies ++= Seq(
      "org.scala-lang" % "scala-library" % scalaVersion.value % Provided,
      "org.apache.spark" %% "spark-mllib" % sparkVersion % Provided,
      "org.scalatest" %% "scalatest-funsuite" % "3.2.19" % Test
    )
  )
  .settings(sources, compilation, native, tests)

// The Scala example, a jar of its own that is not published: examples/package.
lazy val examples = (project in file("spark-package/examples"))
  .dependsOn(root % Provided)
  .settings(
    name := "spark-deep-learning-examples",
    publish / skip := true,
    autoScalaLibrary := false,
    libraryDependencies ++= (root / libraryDependencies).value.filter(
      _.configurations.contains(Provided.name)),
    Compile / scalaSource := baseDirectory.value / "scala",
    scalafmtConfig := (root / scalafmtConfig).value
  )
  .settings(compilation)

lazy val sources = Seq(
  Compile / scalaSource := baseDirectory.value / "jvm/src/main/scala",
  Compile / javaSource := baseDirectory.value / "jvm/src/main/java",
  Compile / resourceDirectory := baseDirectory.value / "jvm/src/main/resources",
  Test / scalaSource := baseDirectory.value / "jvm/src/test/scala",
  Test / javaSource := baseDirectory.value / "jvm/src/test/java",
  Test / resourceDirectory := baseDirectory.value / "jvm/src/test/resources",
  scalafmtConfig := baseDirectory.value / "jvm/.scalafmt.conf"
)

lazy val compilation = Seq(
  javacOptions ++= Seq("--release", "17", "-Xlint:all,-processing", "-Werror"),
  Compile / doc / javacOptions := Nil,
  scalacOptions ++= Seq(
    "-release",
    "17",
    "-encoding",
    "utf8",
    "-deprecation",
    "-feature",
    "-unchecked",
    "-Xlint",
    "-Werror"
  ),
  Compile / packageDoc / publishArtifact := false
)

lazy val native = Seq(
  nativeLibrary := NativeBuild(
    baseDirectory.value,
    (Compile / resourceManaged).value / "native",
    streams.value.cacheDirectory / "native",
    streams.value.log
  ),
  Compile / resourceGenerators += nativeLibrary.taskValue,
  Compile / resourceGenerators += Def.task {
    val file = (Compile / resourceManaged).value / "sparkdl" / "version"
    IO.write(file, version.value)
    Seq(file)
  }.taskValue,
  Compile / packageSrc / mappings ~= (_.filterNot(_._2.startsWith("native/"))),
  Compile / packageBin / packageOptions +=
    Package.ManifestAttributes("Automatic-Module-Name" -> "sparkdl", "Enable-Native-Access" -> "ALL-UNNAMED"),
  Compile / packageBin / mappings ++= Seq("LICENSE", "NOTICE").map(f =>
    baseDirectory.value / f -> s"META-INF/$f")
)

// What Spark's own launcher opens for JDK 17; Arrow needs java.nio.
lazy val opened = Seq(
  "java.lang",
  "java.lang.invoke",
  "java.lang.reflect",
  "java.io",
  "java.net",
  "java.nio",
  "java.util",
  "java.util.concurrent",
  "java.util.concurrent.atomic",
  "jdk.internal.ref",
  "sun.nio.ch",
  "sun.nio.cs",
  "sun.security.action",
  "sun.util.calendar"
)

lazy val tests = Seq(
  Test / fork := true,
  Test / parallelExecution := false,
  Test / baseDirectory := baseDirectory.value,
  Test / testOptions += Tests.Argument(TestFrameworks.ScalaTest, "-oDF"),
  Test / javaOptions ++= opened.map(p => s"--add-opens=java.base/$p=ALL-UNNAMED") ++ Seq(
    "-Xmx2g",
    // Many small jobs: compiling what is hot once more takes longer than it saves.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Djdk.reflect.useDirectMethodHandle=false",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dspark.ui.enabled=false",
    "-Dspark.master=local[2]",
    "-Dspark.sql.shuffle.partitions=2",
    "-Dspark.sql.warehouse.dir=" + (target.value / "warehouse")
  )
)
